/** rename(2) with RENAME_EXCHANGE: two names of one mount, of whatever kind, change their inodes at once. */
import { type Context, refuse } from "./context.ts";
import { exchangeLinks } from "./links.ts";
import type { Inode, Link } from "./model.ts";
import { needMovable } from "./permissions.ts";
import { ancestorsOf } from "./queries.ts";
import { queueExchange, queueRename, storeMayHold } from "./ufsops.ts";

/** A name, what it names, and where it is. */
interface Named {
  readonly directory: Inode;
  readonly inode: Inode;
  readonly link: Link;
}

/**
 * `first` may be moved to the place of `second`, as `rename` has found: two inodes on one mount, `second` not inside
 * `first`. Here the other half is looked at, and both are moved.
 */
export function exchange(context: Context, first: Named, second: Named): void {
  if (second.inode.mountPoint) refuse("Busy", "the target is a mount point");
  if (second.inode.kind === "directory") {
    for (const ancestor of ancestorsOf(context.state, first.directory.id)) {
      if (ancestor === second.inode.id)
        refuse("InvalidArgument", "the source is inside the target");
    }
  }
  needMovable(context, moveOf(first, second));
  needMovable(context, moveOf(second, first));
  const [holdsFirst, holdsSecond] = [storeMayHold(first.inode), storeMayHold(second.inode)];
  if (holdsFirst && holdsSecond) queueExchange(context, first, second);
  else if (holdsFirst) queueRename(context, first.inode, { from: first.link, to: second.link });
  else if (holdsSecond) queueRename(context, second.inode, { from: second.link, to: first.link });
  exchangeLinks(context, first, second);
}

function moveOf(from: Named, to: Named): Parameters<typeof needMovable>[1] {
  return {
    sourceParent: from.directory,
    source: from.inode,
    targetParent: to.directory,
    target: to.inode,
  };
}

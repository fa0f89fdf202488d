#!/bin/sh
# A real S3 server for tests, benches and the tour: Ceph's RADOS gateway over a monitor and one object store daemon that
# keeps everything in memory, all on loopback and under one directory.
#
#   s3-server.sh start DIR [PORT]   prints S3_ENDPOINT=…, S3_ACCESS_KEY=…, S3_SECRET_KEY=…, one per line, when it serves
#   s3-server.sh stop DIR           ends the processes it started (by their pid files) and removes what they kept
#
# PORT 0 or none: two free ports are chosen. Needs Debian's radosgw, ceph-mon and ceph-osd: installed by apt where that is
# allowed (root, or sudo without a password).
set -eu

usage() {
  echo "Usage: $0 start DIR [PORT] | stop DIR" >&2
  exit 64
}
[ $# -ge 2 ] || usage
verb=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
port=${3:-0}
access_key=weir-test-key
secret_key=weir-test-secret

fail() {
  echo "Cannot $verb the S3 server in \"$dir\": $1" >&2
  exit 1
}

# Ends every process that wrote its pid here, politely first.
end_processes() {
  pids=
  for file in "$dir"/run/*.pid; do
    [ -f "$file" ] || continue
    pid=$(cat "$file")
    # A pid file may be stale and its number somebody else's by now.
    if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$dir/ceph.conf"; then
      pids="$pids $pid"
      kill "$pid" 2>/dev/null || true
    fi
    rm -f "$file"
  done
  tries=0
  for pid in $pids; do
    while kill -0 "$pid" 2>/dev/null; do
      tries=$((tries + 1))
      [ $tries -lt 50 ] || kill -9 "$pid" 2>/dev/null || true
      sleep 0.1
    done
  done
}

remove_state() {
  for each in run log mon osd rgw monmap ceph.conf; do rm -rf "${dir:?}/$each"; done
}

install_missing() {
  missing=
  for program in radosgw ceph-mon ceph-osd; do
    command -v "$program" >/dev/null || missing="$missing $program"
  done
  [ -n "$missing" ] || return 0
  how="apt-get install --no-install-recommends$missing"
  command -v apt-get >/dev/null || fail "there is no$missing; install Ceph's packages of these names"
  as_root=
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null && sudo -n true 2>/dev/null || fail "there is no$missing; as root: $how"
    as_root="sudo -n"
  fi
  {
    $as_root apt-get update -qq &&
      $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
  } >&2 || fail "installing failed; as root: $how"
}

# Two ports that nobody uses now.
free_ports() {
  node -e '
    const { createServer } = require("node:net");
    const servers = [createServer(), createServer()];
    let open = 0;
    for (const each of servers) each.listen(0, "127.0.0.1", () => {
      if (++open < servers.length) return;
      console.log(servers.map((server) => server.address().port).join(" "));
      for (const server of servers) server.close();
    });'
}

write_configuration() {
  cat >"$dir/ceph.conf" <<CONF
[global]
fsid = $1
mon_host = [v1:127.0.0.1:$mon_port]
mon_initial_members = a
public_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
# One copy of everything: it is a test.
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
osd_objectstore = memstore
osd_class_update_on_start = false
memstore_device_bytes = 8589934592
run_dir = $dir/run
admin_socket = $dir/run/\$name.asok
log_file = $dir/log/\$name.log
pid_file = $dir/run/\$name.pid
[mon.a]
host = localhost
mon_data = $dir/mon
[osd.0]
osd_data = $dir/osd
[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:$port
rgw_data = $dir/rgw
CONF
}

# Runs a step with its chatter in the log; shows the end of it when the step fails.
step() {
  "$@" >>"$dir/log/start.log" 2>&1 || {
    tail -n 5 "$dir/log/start.log" >&2
    end_processes
    fail "\"$1\" failed; see $dir/log"
  }
}

start() {
  install_missing
  end_processes
  remove_state
  mkdir -p "$dir/run" "$dir/log" "$dir/mon" "$dir/osd" "$dir/rgw"
  set -- $(free_ports)
  [ "$port" -ne 0 ] || port=$1
  mon_port=$2
  fsid=$(cat /proc/sys/kernel/random/uuid)
  osd_id=$(cat /proc/sys/kernel/random/uuid)
  write_configuration "$fsid"
  conf=$dir/ceph.conf
  step monmaptool --create --fsid "$fsid" --addv a "[v1:127.0.0.1:$mon_port]" "$dir/monmap"
  step ceph-mon -c "$conf" --mkfs -i a --monmap "$dir/monmap"
  step ceph-mon -c "$conf" -i a
  step timeout 30 ceph -c "$conf" osd new "$osd_id"
  step ceph-osd -c "$conf" -i 0 --mkfs --osd-uuid "$osd_id"
  # The daemon may speak to the monitor before it knows the cluster it is in, and then refuses to start.
  tries=1
  until ceph-osd -c "$conf" -i 0 >>"$dir/log/start.log" 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 10 ] || break
    sleep 0.2
  done
  [ $tries -lt 10 ] || step ceph-osd -c "$conf" -i 0
  step radosgw -c "$conf" -n client.rgw
  step timeout 60 radosgw-admin -c "$conf" user create --uid=weir --display-name=weir \
    --access-key="$access_key" --secret-key="$secret_key"
  # The gateway forks before it listens.
  step node -e '
    const { connect } = require("node:net");
    const endMs = Date.now() + 60000;
    const attempt = () => connect(Number(process.argv[1]), "127.0.0.1")
      .on("connect", () => process.exit(0))
      .on("error", () => (Date.now() < endMs ? setTimeout(attempt, 100) : process.exit(1)));
    attempt();' "$port"
  echo "S3_ENDPOINT=http://127.0.0.1:$port"
  echo "S3_ACCESS_KEY=$access_key"
  echo "S3_SECRET_KEY=$secret_key"
}

case $verb in
  start) start ;;
  stop)
    end_processes
    remove_state
    ;;
  *) usage ;;
esac

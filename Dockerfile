# One image for all processes of Weir: masters, workers, mounts, nats-server and the command line.
#   docker build -t weir .                                   docker run weir status --help
ARG BASE=node:20-bookworm-slim

FROM ${BASE} AS build
WORKDIR /opt/weir
COPY package.json package-lock.json .npmrc ./
RUN npm ci --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN node_modules/.bin/tsc -p tsconfig.build.json \
  && chmod +x dist/src/cli/main.js \
  && npm prune --omit=dev --no-audit --no-fund

FROM ${BASE}
RUN apt-get update -qq \
  && (apt-get install -y -qq --no-install-recommends nats-server fuse3 libfuse2 \
    || apt-get install -y -qq --no-install-recommends nats-server fuse3 libfuse2t64) \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/weir
COPY --from=build /opt/weir/package.json ./
COPY --from=build /opt/weir/node_modules ./node_modules
COPY --from=build /opt/weir/dist ./dist
# Named volumes take the owner of the directory that they cover.
RUN useradd --system --uid 10001 --home-dir /var/lib/weir weir \
  && mkdir -p /var/lib/weir/root /var/lib/weir/blocks /var/lib/weir/master /var/lib/weir/secret /var/tmp/weir /mnt/weir \
  && chown -R weir:weir /var/lib/weir /var/tmp/weir /mnt/weir \
  && ln -s /opt/weir/dist/src/cli/main.js /usr/local/bin/weir
ENV WEIR_CONFIG=/etc/weir/weir.yaml
USER weir
ENTRYPOINT ["weir"]
CMD ["--help"]

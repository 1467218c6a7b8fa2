# syntax=docker/dockerfile:1

FROM node:24.21.0-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts && npm cache clean --force

FROM node:24.21.0-bookworm-slim
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8080 DATA_DIR=/data
WORKDIR /app
# The program stays owned by root: the process can read it and cannot change it.
COPY --from=dependencies /app/node_modules ./node_modules
COPY package.json openapi.json ./
COPY migrations ./migrations
COPY src ./src
RUN install -d -o node -g node /data
USER node
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/readyz`).then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# The process itself, and not npm or a shell, must get SIGTERM: it drains for up to 25 s.
# Left to itself, Node 24 lets short-lived objects take 128 MB before it collects them.
CMD ["node", "--max-semi-space-size=16", "src/server.ts"]

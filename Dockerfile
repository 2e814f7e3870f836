# The images of the programs, a target each: docker build --target app .
# The pages must have been built before (`make web`); role registry builds all targets from a packed release.
ARG BASE_IMAGE=debian:12-slim@sha256:d5d3f9c23164ea16f31852f95bd5959aad1c5e854332fe00f7b3a20fcc9f635c

# pip works from an environment beside the programs', which needs none.
FROM ${BASE_IMAGE} AS tools
# hadolint ignore=DL3008 # Debian keeps only the newest version of a package, which brings its security updates
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv && \
    apt-get clean && rm -rf /var/lib/apt/lists/*
COPY requirements/build.lock /requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /tools && python3 -m venv --without-pip /opt/cbm && \
    /tools/bin/pip install --require-hashes --requirement /requirements/build.lock

# All that comes from outside is fetched here, where the base image's own certificates are trusted.
FROM tools AS packages
COPY requirements/store.lock requirements/app.lock requirements/card.lock requirements/extraction.lock /requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    for name in store app card extraction; do \
        /tools/bin/pip download --require-hashes --requirement "/requirements/$name.lock" --dest "/packages/$name" || exit 1; \
    done

FROM tools AS wheel
COPY . /source
RUN /tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel /source

# What changes seldom comes first: the images share all but their last layers, and so do releases.
FROM ${BASE_IMAGE} AS base
# The base is fixed; Debian's updates since then come on top. Another value fetches them again.
ARG UPDATED=never
# hadolint ignore=DL3008
RUN apt-get update && apt-get upgrade --yes && \
    apt-get install --yes --no-install-recommends ca-certificates python3 && \
    apt-get clean && rm -rf /var/lib/apt/lists/* && \
    useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin cbm
COPY --from=tools /opt/cbm /opt/cbm
RUN --mount=type=bind,from=tools,source=/tools,target=/tools \
    --mount=type=bind,from=packages,source=/packages/store,target=/packages \
    --mount=type=bind,source=requirements/store.lock,target=/store.lock \
    /tools/bin/pip --python /opt/cbm/bin/python install --no-cache-dir --no-index --find-links /packages \
    --require-hashes --requirement /store.lock
ENV PATH=/opt/cbm/bin:$PATH PYTHONUNBUFFERED=1
STOPSIGNAL SIGTERM
# Where a program is no server, its state is in the queue or in its exit code.
HEALTHCHECK NONE

# The REST API with its pages, and the operator's commands for its users: cbm-api.
FROM base AS app
RUN --mount=type=bind,from=tools,source=/tools,target=/tools \
    --mount=type=bind,from=packages,source=/packages/app,target=/packages \
    --mount=type=bind,source=requirements/app.lock,target=/app.lock \
    /tools/bin/pip --python /opt/cbm/bin/python install --no-cache-dir --no-index --find-links /packages \
    --require-hashes --requirement /app.lock
RUN --mount=type=bind,from=tools,source=/tools,target=/tools \
    --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /tools/bin/pip --python /opt/cbm/bin/python install --no-cache-dir --no-index --no-deps /wheel/*.whl
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["cbm-api"]
CMD ["serve", "--bind=0.0.0.0:8000"]

# The search for scenes and their processing, and the commands of catalogue and parcels: cbm-card, cbm-store.
FROM base AS card
RUN --mount=type=bind,from=tools,source=/tools,target=/tools \
    --mount=type=bind,from=packages,source=/packages/card,target=/packages \
    --mount=type=bind,source=requirements/card.lock,target=/card.lock \
    /tools/bin/pip --python /opt/cbm/bin/python install --no-cache-dir --no-index --find-links /packages \
    --require-hashes --requirement /card.lock
RUN --mount=type=bind,from=tools,source=/tools,target=/tools \
    --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /tools/bin/pip --python /opt/cbm/bin/python install --no-cache-dir --no-index --no-deps /wheel/*.whl
USER 10001:10001
ENTRYPOINT ["cbm-card"]
CMD ["--help"]

# The extraction worker, and the commands of the queue: cbm-extract. SIGTERM releases its scene.
FROM base AS extraction
RUN --mount=type=bind,from=tools,source=/tools,target=/tools \
    --mount=type=bind,from=packages,source=/packages/extraction,target=/packages \
    --mount=type=bind,source=requirements/extraction.lock,target=/extraction.lock \
    /tools/bin/pip --python /opt/cbm/bin/python install --no-cache-dir --no-index --find-links /packages \
    --require-hashes --requirement /extraction.lock
RUN --mount=type=bind,from=tools,source=/tools,target=/tools \
    --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /tools/bin/pip --python /opt/cbm/bin/python install --no-cache-dir --no-index --no-deps /wheel/*.whl
# The only folder written to, a volume: spans of parcels, and the kernels as compiled for this node's processor.
RUN install --directory --owner=cbm --group=cbm /var/cache/cbm
ENV CBM_CACHE_DIR=/var/cache/cbm/spans NUMBA_CACHE_DIR=/var/cache/cbm/kernels
USER 10001:10001
ENTRYPOINT ["cbm-extract"]
CMD ["work"]

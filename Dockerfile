# The service in a container. torch's wheels include CUDA, so the base is a plain Python image, and one file serves CPU and
# GPU hosts. Any Debian-like base with `python3` >= 3.11 and its `venv` module works; name it by its digest for builds that
# can be repeated: --build-arg BASE=docker.io/library/python:3.11-slim-bookworm@sha256:...
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS base
ENV PATH=/opt/venv/bin:$PATH

FROM base AS build
# pip's environment variables of these names; without them pip uses PyPI.
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=
ARG PIP_FIND_LINKS=
ARG PIP_CERT=
# Further arguments of `pip install`.
ARG PIP_ARGS=
# File with versions and hashes: requirements/cuda.txt, requirements/cpu.txt, or empty for another Python or processor, which
# takes CONSTRAINTS and TORCH instead, without hashes.
ARG REQUIREMENTS=requirements/cuda.txt
# File with the tested versions; empty: the newest versions that pyproject.toml allows.
ARG CONSTRAINTS=constraints.txt
# Requirement for torch, e.g. "torch==2.13.0"; must match the version in the constraints file.
ARG TORCH=torch

# pip has its own venv, so that the venv of the image contains no installer.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv

# Dependencies before the code, so that a change in service/ does not download torch again.
WORKDIR /src
COPY pyproject.toml constraints*.txt ./
COPY requirements requirements
RUN install="/opt/pip/bin/pip --python /opt/venv/bin/python install --no-cache-dir ${PIP_ARGS}"; \
    if [ -n "$REQUIREMENTS" ]; then $install --no-deps --require-hashes -r "$REQUIREMENTS"; \
    else python3 -c 'import tomllib; \
p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
print(*p["dependencies"], *p["optional-dependencies"]["server"], sep="\n")' > requirements.txt \
      && $install ${CONSTRAINTS:+-c "$CONSTRAINTS"} -r requirements.txt "${TORCH}"; fi

# setuptools, which builds the package, is a requirement of torch: with hashes nothing else is downloaded.
COPY README.md ./
COPY service service
RUN /opt/pip/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-deps \
    ${REQUIREMENTS:+--no-build-isolation} ${PIP_ARGS} .

FROM base AS service
LABEL org.opencontainers.image.title="focal-loss-service" \
      org.opencontainers.image.description="Focal loss as a service: per-batch losses and the contribution of each example."
# A fixed user id: volumes keep their owner with each new image, and orchestrators can verify that the user is not root.
RUN groupadd --gid 10001 focal-loss \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin focal-loss \
 && install -d -o 10001 -g 10001 -m 0750 /data
COPY --from=build /opt/venv /opt/venv
# torch's CUDA wheels include Triton, which compiles its interface to the driver on first use. A CPU image has no Triton and
# gets no compiler. Without a compiler the service logs a warning and uses plain torch.
RUN if python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("triton") is None)'; then \
      headers=$(python -c 'import sysconfig; print(sysconfig.get_path("include"))'); \
      apt-get update \
      && apt-get install -y --no-install-recommends gcc libc6-dev $([ -e "$headers/Python.h" ] || echo python3-dev) \
      && rm -rf /var/lib/apt/lists/*; \
    fi

# With this host the service does not start without FOCAL_LOSS_API_KEYS. It writes to /tmp and /data only, so the root file
# system may be read-only. Compiled kernels are in /data, because engines mount a tmpfs such as /tmp as noexec.
ENV FOCAL_LOSS_HOST=0.0.0.0 \
    FOCAL_LOSS_DATA_DIR=/data \
    FOCAL_LOSS_PORT=8000 \
    HOME=/tmp \
    TRITON_CACHE_DIR=/data/triton \
    NUMBA_CACHE_DIR=/data/numba \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['FOCAL_LOSS_PORT']), timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["focal-loss"]
CMD ["serve"]

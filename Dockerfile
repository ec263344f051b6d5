# tunebook in a container. PyTorch's CPU build comes from the address that its "Get started" page
# shows for Pip and CPU; its CUDA build is what pip finds by itself on Linux, several gigabytes.
#   docker build -t tunebook --build-arg TORCH_INDEX_URL=<that address> .
#   docker build -t tunebook --build-arg TORCH=cuda .
# The book is a volume. Keys come from the environment of `docker run`, never from the image.
#   docker run --rm -it -v "$PWD/mybook:/book" -e HF_TOKEN tunebook train run_1.yaml
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /source
RUN pip install --no-cache-dir 'build>=1.2,<2'
COPY pyproject.toml MANIFEST.in README.md CHANGELOG.md LICENSE ./
COPY src/ src/
RUN python -m build --wheel --outdir /wheels

FROM python:${PYTHON_VERSION}-slim
# cpu, or cuda. An address of PyTorch's own also takes that of one CUDA release.
ARG TORCH=cpu
ARG TORCH_INDEX_URL=
ARG EXTRAS=parquet,tensorboard
RUN if [ -n "$TORCH_INDEX_URL" ]; then \
      pip install --no-cache-dir 'torch>=2.10,<2.14' --index-url "$TORCH_INDEX_URL"; \
    elif [ "$TORCH" != cuda ] && [ "$(uname -m)" = x86_64 ]; then \
      echo "give --build-arg TORCH_INDEX_URL=..., see the top of this file, or TORCH=cuda" >&2; \
      exit 1; \
    fi
COPY --from=build /wheels /wheels
RUN wheel="$(echo /wheels/*.whl)" \
    && pip install --no-cache-dir "tunebook[$EXTRAS] @ file://$wheel" \
    && useradd --create-home --uid 1000 author \
    && mkdir /book /cache \
    && chown author /book /cache
# Models of the hub are kept here; a volume keeps them from one container to the next.
ENV HF_HOME=/cache
USER 1000
WORKDIR /book
VOLUME ["/book", "/cache"]
EXPOSE 7878
ENTRYPOINT ["tunebook"]
CMD ["--help"]

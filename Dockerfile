# Hale's image. `docker build -t hale:0.1.0 .` compiles the sources that lie here; nothing else is needed.
#
# The runtime stage takes both its base and the place of its binary from arguments, so the very stage
# that users run can also be built where no registry can be reached:
#
#   RUNTIME_IMAGE  what the image starts from. Needs the C library, libgcc and CA certificates.
#                  Pin it by digest (name@sha256:…) for builds that can be repeated.
#   BINARY_STAGE   which stage the binary comes from: `build` compiles it, `prebuilt` copies
#                  ${PREBUILT} from the build context. A stage that is not needed is not pulled.
ARG BUILD_IMAGE=docker.io/library/rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot
ARG BINARY_STAGE=build

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
# The caches make the second build short; the binary is copied out because a cache mount is not part of the layer.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p hale && install -D target/release/hale /out/hale

FROM scratch AS prebuilt
ARG PREBUILT=hale
COPY ${PREBUILT} /out/hale

# `COPY --from` takes no variable, `FROM` does: this stage is nothing but that variable's value.
FROM ${BINARY_STAGE} AS binary

FROM ${RUNTIME_IMAGE} AS runtime
LABEL org.opencontainers.image.title="hale" \
      org.opencontainers.image.description="A Kubernetes ingress controller that knows which upstreams are healthy, and says why" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=binary --chmod=0755 /out/hale /usr/local/bin/hale
# A number, not a name: kubelet proves runAsNonRoot only from a number.
USER 65532:65532
# HTTP, HTTPS, and /livez /readyz /metrics.
EXPOSE 8080 8443 10254
ENTRYPOINT ["/usr/local/bin/hale"]
CMD ["run"]

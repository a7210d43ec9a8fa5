# docker buildx bake --file docker/docker-bake.hcl --set '*.output=type=registry'
variable "REGISTRY" { default = "reuseport" }
variable "VERSION" { default = "0.1.0" }
variable "REVISION" { default = "" }
variable "SOURCE_DATE_EPOCH" { default = "0" }

group "default" { targets = ["shim", "cli"] }

target "common" {
  context    = "."
  dockerfile = "docker/Dockerfile"
  platforms  = ["linux/amd64", "linux/arm64"]
  args       = { SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH }
  attest     = ["type=provenance,mode=max", "type=sbom"]
  labels = {
    "org.opencontainers.image.version"  = VERSION
    "org.opencontainers.image.revision" = REVISION
    "org.opencontainers.image.licenses" = "MIT OR Apache-2.0"
  }
}

target "shim" {
  inherits = ["common"]
  target   = "shim"
  tags     = ["${REGISTRY}/shim:${VERSION}"]
  labels = {
    "org.opencontainers.image.title"       = "reuseport shim"
    "org.opencontainers.image.description" = "libreuseport.so, which sets SO_REUSEPORT before each matching bind(2)"
  }
}

target "cli" {
  inherits = ["common"]
  target   = "cli"
  tags     = ["${REGISTRY}/cli:${VERSION}"]
  labels = {
    "org.opencontainers.image.title"       = "reuseport"
    "org.opencontainers.image.description" = "Run any Linux server, unmodified, more than once on one port"
  }
}

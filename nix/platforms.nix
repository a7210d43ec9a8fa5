# For which platforms there is a shim, and why there is none for another.
{ lib }:
let
  # Those of shim/architectures.rs.
  systems = [
    "x86_64-linux"
    "aarch64-linux"
  ];
in
{
  inherit systems;

  # The reason; null where there is a shim. A platform is what
  # lib.systems.elaborate gives, as stdenv.hostPlatform is.
  refusal =
    platform:
    let
      why =
        if !platform.isLinux then
          "SO_REUSEPORT shares connections among listeners in Linux alone"
        else if !platform.is64bit then
          "the shim has no assembly for 32-bit processors"
        else
          "the shim has no assembly for it yet (shim/arch)";
    in
    if lib.elem platform.system systems then
      null
    else
      "reuseport has no shim for ${platform.system}: ${why}; there is one for ${lib.concatStringsSep " and " systems}";
}

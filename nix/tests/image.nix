# An image with the shim in it, made by two derivations: the same bytes.
{
  pkgs,
  packages,
  injectImage,
}:
let
  image = pkgs.dockerTools.buildImage {
    name = "twice";
    tag = "1";
    copyToRoot = import ./root.nix { inherit pkgs packages; };
    config.Cmd = [ "/bin/twice" ];
  };
  inject =
    more:
    injectImage pkgs (
      {
        inherit image;
        package = packages.reuseport;
        port = "0-65535";
        op = "reuseport";
      }
      // more
    );
  one = inject { };
  # Another derivation, since Nix would build the same one once.
  other = inject { check = false; };
  layout = inject {
    image = pkgs.runCommand "layout" { nativeBuildInputs = [ packages.reuseport ]; } ''
      reuseport inject docker-archive:${image} -t oci:$out:1
    '';
    name = "twice";
    tag = "1-reuseport";
  };
  # What writes the archive on its standard output, as streamLayeredImage gives.
  stream = inject {
    image =
      pkgs.runCommand "stream"
        {
          passthru = {
            inherit (image) imageName imageTag;
            isExe = true;
          };
        }
        ''
          printf '#!/bin/sh\ngzip -dc %s\n' ${image} >"$out"
          chmod +x "$out"
        '';
  };
in
pkgs.runCommand "reuseport-image-test"
  {
    nativeBuildInputs = [ packages.reuseport ];
  }
  ''
    cmp ${one} ${other}
    reuseport validate docker-archive:${one}:${one.imageName}:${one.imageTag}
    reuseport validate oci:${layout}:${layout.imageTag}
    reuseport validate docker-archive:${stream}:${stream.imageName}:${stream.imageTag}
    mkdir "$out"
    ln -s ${image} "$out/source"
    ln -s ${one} "$out/archive"
    ln -s ${layout} "$out/layout"
  ''

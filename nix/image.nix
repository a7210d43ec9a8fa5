# lib.injectImage pkgs { image, … }: an image of dockerTools, or an OCI layout,
# with the shim in it. The same arguments give the same image, and the same digest
# as `reuseport inject` gives on the command line.
pkgs: arguments:
let
  inherit (pkgs) lib;
  inherit (lib) types;
  inherit (pkgs.stdenv) buildPlatform hostPlatform;
  rules = import ./rules.nix { inherit lib; };
  platforms = import ./platforms.nix { inherit lib; };

  module = { config, ... }: {
    options.injectImage = rules.options // {
      image = lib.mkOption {
        type = types.either types.package types.path;
        description = ''
          What dockerTools.buildImage, buildLayeredImage or streamLayeredImage gives; a docker
          archive of one image; or the directory of an OCI layout.
        '';
      };
      name = lib.mkOption {
        type = types.strMatching "([a-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*";
        default =
          config.injectImage.image.imageName
            or (throw "injectImage.name: the image does not say its name; give what the result is to be called");
        description = "The name of the result.";
      };
      tag = lib.mkOption {
        type = types.strMatching "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
        default = "${config.injectImage.image.imageTag or "latest"}-reuseport";
        description = "The tag of the result.";
      };
      check = lib.mkOption {
        type = types.bool;
        default = true;
        description = "Whether to refuse an image whose program the shim cannot reach.";
      };
      package = lib.mkOption {
        type = types.package;
        default = pkgs.reuseport or (pkgs.callPackage ./package.nix { });
        description = "The package whose command does it, and whose shim the image gets.";
      };
    };
    config.injectImage = arguments;
  };

  cfg =
    if refusal == null then
      (lib.evalModules { modules = [ module ]; }).config.injectImage
    else
      throw "injectImage: ${refusal}.";
  isStream = cfg.image.isExe or false;

  # The program that can run here carries the shim of this machine alone.
  refusal =
    if platforms.refusal hostPlatform != null then
      platforms.refusal hostPlatform
    else if !(buildPlatform.canExecute hostPlatform) then
      ''
        the program that runs on ${buildPlatform.system} has no shim for ${hostPlatform.system}. Give the package set
        of that system, built there or under emulation''
    else
      null;
in
pkgs.runCommand "${baseNameOf cfg.name}-reuseport"
  {
    nativeBuildInputs = [ cfg.package ];
    passthru = {
      imageName = cfg.name;
      imageTag = cfg.tag;
    };
    meta.description = "The image ${cfg.name}:${cfg.tag}, with the shim of reuseport";
  }
  ''
    # As on the command line: what was added is of the time 0.
    unset SOURCE_DATE_EPOCH
    ${
      if isStream then
        ''
          ${cfg.image} >"$TMPDIR/source.tar"
          source=$TMPDIR/source.tar
        ''
      else
        ''
          source=${cfg.image}
        ''
    }
    if [ -d "$source" ]; then
      from=oci:$source to=oci:$out:${cfg.tag}
    else
      from=docker-archive:$source to=docker-archive:$out:${cfg.name}:${cfg.tag}
    fi
    reuseport inject "$from" -t "$to" ${
      lib.escapeShellArgs (rules.flags cfg ++ lib.optional (!cfg.check) "--no-check")
    }
  ''

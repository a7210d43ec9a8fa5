# lib.injectImage pkgs { image, … }: an image of dockerTools, or an OCI layout,
# with the shim in it. The same arguments give the same image, and the same digest
# as `reuseport inject` gives on the command line.
pkgs: arguments:
let
  inherit (pkgs) lib;
  inherit (lib) types;
  rules = import ./rules.nix { inherit lib; };

  module = {
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
          arguments.image.imageName
            or (throw "injectImage.name: the image does not say its name; give what the result is to be called");
        description = "The name of the result.";
      };
      tag = lib.mkOption {
        type = types.strMatching "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
        default = "${arguments.image.imageTag or "latest"}-reuseport";
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

  cfg = (lib.evalModules { modules = [ module ]; }).config.injectImage;
  isStream = cfg.image.isExe or false;
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

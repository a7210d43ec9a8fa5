# The packages that the flake uses, made of the programs of this machine.
{ lib, system }:
let
  # { path = "what finds cargo, cc and the rest"; cargoHome, rustupHome, target; }
  host = import ./host.nix;

  platform = lib.systems.elaborate system;
  stdenv = {
    hostPlatform = platform;
    buildPlatform = platform;
  };

  run =
    name: attributes: script:
    derivation (
      builtins.removeAttrs attributes [
        "meta"
        "nativeBuildInputs"
        "passthru"
      ]
      // {
        inherit name system;
        builder = "/bin/bash";
        args = [
          "-euo"
          "pipefail"
          "-c"
          ''
            export PATH=${
              lib.concatMapStringsSep ":" (input: "${input}/bin") (attributes.nativeBuildInputs or [ ])
            }:${host.path}
            export CARGO_HOME=${host.cargoHome} RUSTUP_HOME=${host.rustupHome} TMPDIR=$NIX_BUILD_TOP
            runHook() { :; }
            ${script}
            exit 0
          ''
        ];
      }
    )
    // (attributes.passthru or { })
    // lib.optionalAttrs (attributes ? meta) { inherit (attributes) meta; };

  buildRustPackage =
    attributes:
    run "${attributes.pname}-${attributes.version}"
      {
        inherit (attributes) src outputs passthru;
        meta = attributes.meta // {
          outputsToInstall = [ "out" ];
        };
      }
      ''
        installShellCompletion() {
          mkdir -p "$out/share/completions"
          cp "$@" "$out/share/completions"
        }
        installManPage() {
          mkdir -p "$out/share/man/man1"
          cp "$@" "$out/share/man/man1"
        }

        # Built where it was built before, by what has changed since.
        built=${host.target}/nix
        mkdir -p "$built/source"
        rsync -rc --delete --perms --chmod=u+w "$src/" "$built/source/"
        (cd "$built/source" && CARGO_TARGET_DIR=$built/cargo cargo build --quiet --offline --locked)
        mkdir -p "$out/bin" work
        cp "$built/cargo/debug/${attributes.pname}" "$out/bin"

        CC=cc
        cp -r "$src/." work
        chmod -R u+w work
        cd work
        ${attributes.postPatch or ""}
        ${attributes.postInstall}
        # As the real one: Cargo is told to strip nothing.
        for output in ${lib.optionalString (!(attributes.dontStrip or false)) "$outputs"}; do
          for directory in ${
            toString (
              attributes.stripDebugList or [
                "lib"
                "bin"
              ]
            )
          }; do
            find "''${!output}/$directory" -type f -exec strip --strip-debug {} + 2>/dev/null || true
          done
        done
        ${attributes.installCheckPhase}
      ''
    // {
      inherit (attributes) pname version;
      inherit stdenv;
      overrideAttrs = change: buildRustPackage (attributes // change attributes);
    };

  # What stands for a tool that this machine has in its PATH.
  tool = name: run name { } "mkdir -p $out/bin";

  pkgs = {
    inherit lib stdenv system;
    rustPlatform = {
      inherit buildRustPackage;
    };
    buildPackages.stdenv.cc = tool "cc";
    runCommand = run;
    runCommandCC =
      name: attributes: script:
      run name attributes "CC=cc\n${script}";
    writeText = name: text: run name { inherit text; } ''printf %s "$text" >$out'';
    mkShell = _: run "shell" { } "echo >$out";
    installShellFiles = tool "install-shell-files";
    clippy = tool "clippy";
    curl = tool "curl";
    lld = tool "lld";
    python3 = tool "python3";
    rustfmt = tool "rustfmt";
    nixfmt-tree = tool "nixfmt-tree" // {
      meta.mainProgram = "treefmt";
    };
    # An image of one layer, with a program of this machine and what it needs.
    dockerTools.buildImage =
      {
        name,
        tag,
        copyToRoot,
        config,
      }:
      run "docker-image-${name}.tar.gz"
        {
          passthru = {
            imageName = name;
            imageTag = tag;
          };
          config = builtins.toJSON config;
        }
        ''
          # The real one adds what the root refers to in the store.
          cp -r ${copyToRoot} root
          chmod -R u+w root
          for library in $(ldd root/bin/* | grep -o '/[^ ]*'); do
            mkdir -p "root''${library%/*}"
            cp -L "$library" "root$library"
          done
          tar --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner -C root -cf layer.tar .
          sum=$(sha256sum layer.tar | cut -c1-64)
          cat >config.json <<END
          {"architecture":"${
            {
              x86_64-linux = "amd64";
              aarch64-linux = "arm64";
            }
            .${system}
          }","os":"linux","created":"1970-01-01T00:00:01Z","config":$config,
           "rootfs":{"type":"layers","diff_ids":["sha256:$sum"]}}
          END
          echo '[{"Config":"config.json","RepoTags":["${name}:${tag}"],"Layers":["layer.tar"]}]' >manifest.json
          tar --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner -cf - config.json layer.tar manifest.json |
            gzip -n >"$out"
        '';
    # The same package set on and for other platforms.
    pkgsStatic = on {
      hostPlatform = platform // {
        isStatic = true;
      };
    };
    pkgsMusl = on {
      hostPlatform = platform // {
        isMusl = true;
      };
      buildPlatform = platform // {
        isMusl = true;
      };
    };
    crossTo =
      system:
      on {
        hostPlatform = lib.systems.elaborate system;
      };
    extend =
      overlay:
      let
        extended = scope (pkgs // overlay extended pkgs);
      in
      extended;
  };
  on = platforms: scope (pkgs // { stdenv = stdenv // platforms; });
  scope =
    set:
    let
      scoped = set // {
        callPackage = lib.callPackageWith scoped;
      };
    in
    scoped;
in
scope pkgs

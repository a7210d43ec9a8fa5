{
  lib,
  stdenv,
  buildPackages,
  rustPlatform,
  installShellFiles,
  lld,
}:
let
  manifest = (lib.importTOML ../Cargo.toml).package;
  inherit (stdenv.hostPlatform) isStatic;
  architecture = stdenv.hostPlatform.parsed.cpu.name;
  canRun = stdenv.buildPlatform.canExecute stdenv.hostPlatform;
  # What shim/hooks.rs puts in front of the C library's, and nothing else.
  hooks = [
    "bind"
    "listen"
    "syscall"
  ];
in
rustPlatform.buildRustPackage {
  pname = manifest.name;
  inherit (manifest) version;

  # Without documents, of which none is compiled.
  src =
    lib.throwIf stdenv.buildPlatform.isMusl
      ''
        reuseport: the Rust compiler of a musl package set knows the target of musl alone, and the shim is
        compiled for ${architecture}-unknown-linux-gnu, whatever loads it. Take pkgs.reuseport: its shim is
        for the programs of pkgsMusl, too.''
      (
        lib.fileset.toSource {
          root = ../.;
          fileset = lib.fileset.unions [
            ../Cargo.lock
            ../Cargo.toml
            ../build.rs
            ../nix/twice.c
            ../shim
            ../src
          ];
        }
      );

  cargoLock.lockFile = ../Cargo.lock;

  # The shim alone is the output `lib`: a few kilobytes that need nothing.
  # Static programs have no loader that could put it in front of them, so a static
  # build has no such output; the shim that it carries is for other programs.
  outputs = [ "out" ] ++ lib.optional (!isStatic) "lib";

  # shim/build compiles a program that runs on the machine that builds.
  depsBuildBuild = [ buildPackages.stdenv.cc ];

  # lld links the shim; GNU's linker makes a larger one.
  nativeBuildInputs = [
    installShellFiles
    lld
  ];

  # The tests under tests/ take servers, engines and a network of their own;
  # ./test runs them. Here: the units of the library and of the shim.
  cargoTestFlags = [
    "--lib"
    "--test=shim"
  ];
  # There is no /etc/ld.so.cache where Nix builds.
  checkFlags = [ "--skip=this_machines_cache_names_its_c_library" ];

  postInstall =
    lib.optionalString (!isStatic) ''
      mkdir -p "$lib/lib" "$out/lib"
      sh shim/build "$lib/lib/libreuseport.so" ${architecture}
      # Where `reuseport run` looks first.
      ln -s "$lib/lib/libreuseport.so" "$out/lib/libreuseport.so"
    ''
    + lib.optionalString canRun ''
      for shell in bash fish zsh; do
        "$out/bin/reuseport" completions "$shell" >"reuseport.$shell"
      done
      installShellCompletion reuseport.{bash,fish,zsh}
      "$out/bin/reuseport" man >reuseport.1
      installManPage reuseport.1
    '';

  # The command alone: the shim is to stay as it is carried.
  stripDebugList = [ "bin" ];

  doInstallCheck = canRun;
  installCheckPhase = ''
    runHook preInstallCheck

    "$out/bin/reuseport" install "$TMPDIR/carried"
    carried=$TMPDIR/carried/libreuseport.so
    shim=${if isStatic then "$carried" else "$lib/lib/libreuseport.so"}
    exported=$(''${NM:-nm} -D --defined-only "$shim" | sed 's/.* //' | LC_ALL=C sort | xargs)
    if [ "$exported" != "${toString hooks}" ]; then
      echo "the shim exports: $exported; it is to export: ${toString hooks}" >&2
      exit 1
    fi
  ''
  + lib.optionalString (!isStatic) ''
    $CC -o "$TMPDIR/twice" nix/twice.c
    if "$TMPDIR/twice" 2>/dev/null; then
      echo "the second bind succeeds without the shim: this proves nothing" >&2
      exit 1
    fi
    if ! LD_PRELOAD=$shim LIBREUSEPORT_PORT=0-65535 "$TMPDIR/twice"; then
      echo "the second bind fails under the shim" >&2
      exit 1
    fi
    "$out/bin/reuseport" --port 0-65535 -- "$TMPDIR/twice"
    if ! cmp "$shim" "$carried"; then
      echo "the shim in the output lib is not the one that the program carries" >&2
      exit 1
    fi
  ''
  + ''

    runHook postInstallCheck
  '';

  passthru = lib.optionalAttrs isStatic {
    lib = throw ''
      reuseport: a static package set has no shim, since no loader puts it in front of a static program.
      Take it from the package set of the programs that are to run under it: pkgs.reuseport.lib'';
  };

  meta = {
    inherit (manifest) description;
    longDescription = ''
      A tiny shared object stands in front of bind(2) by way of LD_PRELOAD and sets
      SO_REUSEPORT just before, so that the kernel shares connections and datagrams
      among the copies of a server that knows nothing of it. The command brings it to
      where servers run: a process, a systemd unit, a container image.
    '';
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    maintainers = [ ];
    mainProgram = "reuseport";
    platforms = (import ./platforms.nix { inherit lib; }).systems;
  };
}

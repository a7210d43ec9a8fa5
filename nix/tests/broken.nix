# The package with a shim that is wrong in one way: its installCheck is to fail.
{ package }:
let
  with' =
    change:
    package.overrideAttrs (old: {
      postInstall = change + old.postInstall;
    });
in
{
  exports-more = with' ''
    printf '%s\n' '#[unsafe(no_mangle)]' 'pub extern "C" fn accept() {}' >>shim/hooks.rs
  '';
  exports-less = with' ''
    sed -i '/no_mangle/d' shim/arch/${package.stdenv.hostPlatform.parsed.cpu.name}.rs
  '';
  sets-nothing = with' ''
    sed -i 's/const SO_REUSEPORT: usize = 15;/const SO_REUSEPORT: usize = 2;/' shim/sockopt.rs
  '';
  is-another = with' ''
    sed -i 's/^version = .*/version = "0.0.0-other"/' Cargo.toml
  '';
}

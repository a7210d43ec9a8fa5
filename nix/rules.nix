# The rules as options, for the module and for images: what parses in
# shim/rules, and nothing else. Wrong ones fail at evaluation, under the option's
# name, instead of making the shim stand down where the service runs.
{ lib }:
let
  inherit (lib) types;

  such = description: test: types.addCheck types.str test // { inherit description; };

  # One item, or a list.
  some =
    item:
    types.coercedTo item lib.singleton (types.listOf item)
    // {
      description = "${item.description}, or list of these";
    };

  # The same with up to `most`, all definitions together.
  upTo =
    most: item:
    let
      any = some item;
    in
    any
    // {
      description = "${item.description}, or list of up to ${toString most} of these";
      merge =
        loc: definitions:
        let
          items = any.merge loc definitions;
          count = builtins.length items;
        in
        if count <= most then
          items
        else
          throw "The option `${lib.showOption loc}' has ${toString count} items, of which the shim takes up to ${toString most}.";
    };

  # A decimal number up to `most`, without leading zeros.
  isNumber =
    most: text: builtins.match "0|[1-9][0-9]{0,4}" text != null && builtins.fromJSON text <= most;

  isPortOrRange =
    text:
    let
      ends = builtins.match "([0-9]+)-([0-9]+)" text;
      first = builtins.elemAt ends 0;
      last = builtins.elemAt ends 1;
    in
    if ends == null then
      isNumber 65535 text
    else
      isNumber 65535 first && isNumber 65535 last && builtins.fromJSON first <= builtins.fromJSON last;

  isIpv4 =
    text:
    let
      parts = lib.splitString "." text;
    in
    builtins.length parts == 4 && lib.all (isNumber 255) parts;

  # RFC 4291, section 2.2: eight groups, or fewer around one gap; the last two
  # may be written as an IPv4 address.
  isIpv6 =
    text:
    let
      halves = lib.splitString "::" text;
      groups = lib.concatMap (half: lib.optionals (half != "") (lib.splitString ":" half)) halves;
      # Nothing comes after a gap that ends the address.
      ends = lib.last halves == "" || groups == [ ];
      isEmbedded = !ends && isIpv4 (lib.last groups);
      plain = if isEmbedded then lib.init groups else groups;
      count = builtins.length plain + (if isEmbedded then 2 else 0);
    in
    lib.all (group: builtins.match "[0-9a-fA-F]{1,4}" group != null) plain
    && (if builtins.length halves == 2 then count < 8 else builtins.length halves == 1 && count == 8);

  isPrefix =
    text:
    let
      parts = lib.splitString "/" text;
      address = builtins.head parts;
      isUpTo = most: parts == [ address ] || lib.all (isNumber most) (builtins.tail parts);
    in
    builtins.length parts <= 2 && (isIpv4 address && isUpTo 32 || isIpv6 address && isUpTo 128);

  # glob(7) on a file name: a backslash quotes a byte, brackets close.
  isGlob =
    text:
    builtins.match "([^][\\/,[:cntrl:]]|[]]|\\\\[^/,[:cntrl:]]|\\[!?[^/,[:cntrl:]][^]/,[:cntrl:]]*])+" text
    != null
    && builtins.match " .*|.* " text == null;

  isInterface =
    text: builtins.match "[^/:[:space:][:cntrl:]]{1,15}" text != null && text != "." && text != "..";

  join = lib.concatMapStringsSep "," toString;
in
{
  options = {
    addr = lib.mkOption {
      type = upTo 64 (such "IPv4 or IPv6 address or prefix (127.0.0.1, 10.0.0.0/8, ::1)" isPrefix);
      default = [ ];
      example = [
        "127.0.0.1"
        "10.0.0.0/8"
      ];
      description = "Only sockets bound to these addresses or prefixes; any where the list is empty.";
    };
    port = lib.mkOption {
      type = upTo 64 (
        types.either (types.ints.between 0 65535) (such "range of ports (\"8000-8099\")" isPortOrRange)
      );
      default = [ ];
      example = [
        80
        "8000-8099"
      ];
      description = "Only sockets bound to these ports or ranges; any but 0 where the list is empty.";
    };
    op = lib.mkOption {
      type = types.nullOr (
        types.enum [
          "reuseport"
          "reuseaddr"
          "both"
        ]
      );
      default = null;
      description = "What is set: SO_REUSEPORT, SO_REUSEADDR or both; SO_REUSEPORT where null.";
    };
    proto = lib.mkOption {
      type = some (
        types.enum [
          "tcp"
          "udp"
        ]
      );
      default = [ ];
      example = "udp";
      description = "Only sockets of these protocols; any where the list is empty.";
    };
    interface = lib.mkOption {
      type = types.nullOr (such "name of a network interface, up to 15 characters" isInterface);
      default = null;
      example = "eth0";
      description = "Bind matching sockets to this network interface.";
    };
    program = lib.mkOption {
      type = upTo 16 (such "glob on a program's file name, without / and comma" isGlob);
      default = [ ];
      example = [
        "nginx"
        "python3*"
      ];
      description = "Only programs whose file name matches one of these globs; any where the list is empty.";
    };
    debug = lib.mkOption {
      type = types.bool;
      default = false;
      description = "Whether to say on standard error what is done at each bind.";
    };
  };

  # The variables for these rules. Those that ask for nothing are left out.
  variables =
    rules:
    lib.optionalAttrs (rules.addr != [ ]) { LIBREUSEPORT_ADDR = join rules.addr; }
    // lib.optionalAttrs (rules.port != [ ]) { LIBREUSEPORT_PORT = join rules.port; }
    // lib.optionalAttrs (rules.op != null) {
      LIBREUSEPORT_OP =
        {
          reuseport = "1";
          reuseaddr = "2";
          both = "3";
        }
        .${rules.op};
    }
    // lib.optionalAttrs (rules.proto != [ ]) { LIBREUSEPORT_PROTO = join rules.proto; }
    // lib.optionalAttrs (rules.interface != null) { LIBREUSEPORT_INTERFACE = rules.interface; }
    // lib.optionalAttrs (rules.program != [ ]) { LIBREUSEPORT_PROGRAM = join rules.program; }
    // lib.optionalAttrs rules.debug { LIBREUSEPORT_DEBUG = "1"; };

  # The command line's flags for them.
  flags =
    rules:
    lib.optional (rules.addr != [ ]) "--addr=${join rules.addr}"
    ++ lib.optional (rules.port != [ ]) "--port=${join rules.port}"
    ++ lib.optional (rules.op != null) "--op=${rules.op}"
    ++ lib.optional (rules.proto != [ ]) "--proto=${join rules.proto}"
    ++ lib.optional (rules.interface != null) "--interface=${rules.interface}"
    ++ lib.optional (rules.program != [ ]) "--program=${join rules.program}"
    ++ lib.optional rules.debug "--debug";
}

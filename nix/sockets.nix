# Which sockets systemd itself binds for a service: the shim does not see that.
{ lib }:
{
  service,
  # Its name, without the ending.
  name,
  sockets,
}:
let
  isOn =
    value:
    lib.elem (lib.toLower (toString value)) [
      "1"
      "yes"
      "y"
      "true"
      "t"
      "on"
    ];
  # Others are paths, abstract names, or addresses of virtual machines.
  isInet =
    address: builtins.match "@.*|vsock.*" address == null && address != "" && !lib.hasInfix "/" address;
  addresses =
    socket:
    socket.listenStreams
    ++ socket.listenDatagrams
    ++ lib.concatMap (setting: map toString (lib.toList (socket.socketConfig.${setting} or [ ]))) [
      "ListenStream"
      "ListenDatagram"
    ];
  isForIt =
    socketName: config:
    config.Service or "${socketName}${lib.optionalString (isOn (config.Accept or false)) "@"}.service"
    == "${name}.service"
    || lib.elem "${socketName}.socket" (
      lib.concatMap (lib.splitString " ") (lib.toList (service.serviceConfig.Sockets or [ ]))
    );
in
lib.attrNames (
  lib.filterAttrs (
    socketName: socket:
    isForIt socketName socket.socketConfig
    && !isOn (socket.socketConfig.ReusePort or false)
    && lib.any isInet (addresses socket)
  ) sockets
)

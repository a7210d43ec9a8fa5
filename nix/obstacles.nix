# What keeps the shim from a service's processes, as its settings say it: a message
# each, with what to do.
{ lib }:
{
  # The service, and its name as an option: systemd.services.web.
  service,
  option,
  # The path of the shim, and the variables that the service is to have.
  shim,
  wanted,
}:
let
  unit = service.serviceConfig;
  inherit (service.reuseport) package;
  # Services of users have none.
  confinement = service.confinement or { enable = false; };
  store = builtins.storeDir;

  # A setting's words, whether it is one text or several; an empty one takes back
  # those before it.
  words =
    setting:
    let
      texts = map toString (lib.toList (unit.${setting} or [ ]));
      kept = lib.foldl' (before: text: if text == "" then [ ] else before ++ [ text ]) [ ] texts;
    in
    lib.filter (word: word != "") (lib.concatMap (lib.splitString " ") kept);

  # The fields of its paths, without the prefixes that say how each is meant.
  paths =
    setting:
    map (word: map trim (lib.splitString ":" (lib.removePrefix "+" (lib.removePrefix "-" word)))) (
      words setting
    );
  trim = path: if path == "/" then path else lib.removeSuffix "/" path;

  isAbove = path: path == "/" || path == shim || lib.hasPrefix "${path}/" shim;

  # What is mounted at the shim's place or above it: of several the deepest is seen.
  deepest = lib.foldl' (
    upper: one: if lib.stringLength one.at >= lib.stringLength upper.at then one else upper
  );
  over =
    setting:
    lib.filter (one: isAbove one.at) (
      map (fields: {
        inherit setting;
        at = lib.head fields;
        shows = false;
      }) (paths setting)
    );
  bound =
    setting:
    lib.filter (one: isAbove one.at) (
      map (
        fields:
        let
          source = lib.head fields;
          destination = lib.elemAt (fields ++ [ "" ]) 1;
          at = if destination == "" then source else destination;
        in
        {
          inherit setting source at;
          shows = at == source;
        }
      ) (paths setting)
    );
  depth = setting: lib.stringLength (deepest { at = ""; } (over setting)).at;

  roots =
    lib.filter
      (
        setting:
        !(lib.elem (trim (toString (unit.${setting} or ""))) [
          ""
          "/"
        ])
      )
      [
        "RootDirectory"
        "RootImage"
      ];
  # A package brings its closure along, and the output `out` links to the shim.
  isConfinedWithIt =
    confinement.fullUnit
    || lib.any (
      one:
      lib.any (part: lib.hasPrefix "${part}" (toString one)) [
        (lib.getLib package)
        package
      ]
    ) confinement.packages;
  seen =
    deepest
      {
        at = "";
        setting = lib.head (roots ++ [ "" ]);
        shows = roots == [ ] && !confinement.enable;
      }
      (
        over "TemporaryFileSystem"
        ++ lib.optional (confinement.enable && isConfinedWithIt) {
          at = shim;
          shows = true;
        }
        ++ bound "BindPaths"
        ++ bound "BindReadOnlyPaths"
      );

  hidden =
    if seen ? source then
      "serviceConfig.${seen.setting} puts ${seen.source} at ${seen.at}, over the shim. Leave that place as it is"
    else if confinement.enable then
      ''
        confinement.enable hides the shim from it. Set confinement.fullUnit, or add
        ${option}.reuseport.package.lib to confinement.packages''
    else
      "serviceConfig.${seen.setting} hides the shim from it. Add ${store} to serviceConfig.BindReadOnlyPaths";

  isAssigned =
    variable: lib.any (word: builtins.match "[\"']?${variable}=.*" word != null) (words "Environment");
  isOther = variable: toString service.environment.${variable} != wanted.${variable};
  isUnset = variable: lib.elem variable (words "UnsetEnvironment");
  isWrapper = command: builtins.match "[-@:+!|]*/run/wrappers/bin/.*" (toString command) != null;
  variables = [ "LD_PRELOAD" ] ++ lib.attrNames wanted;
in
lib.optional (!seen.shows) hidden
++
  lib.optional (depth "InaccessiblePaths" > 0)
    "serviceConfig.InaccessiblePaths hides the shim from it. Take ${store} and what is above it out of there"
++
  lib.optional (depth "NoExecPaths" > depth "ExecPaths")
    "serviceConfig.NoExecPaths keeps the loader from mapping the shim. Add ${store} to serviceConfig.ExecPaths"
++ lib.optional (lib.any isWrapper (lib.toList (unit.ExecStart or [ ]))) ''
  serviceConfig.ExecStart is a wrapper of security.wrappers, for which the loader ignores LD_PRELOAD.
  Run the program itself, with serviceConfig.AmbientCapabilities''
++ map (
  variable:
  "the option and ${option}.environment both set ${variable}, to different values. Leave it to one of them"
) (lib.filter isOther (lib.attrNames wanted))
++ map (variable: ''
  serviceConfig.Environment sets ${variable}, which takes the place of what the option sets.
  Use ${option}.environment.${variable}'') (lib.filter isAssigned variables)
++ map (variable: "serviceConfig.UnsetEnvironment takes ${variable} away. Take it out of there") (
  lib.filter isUnset variables
)

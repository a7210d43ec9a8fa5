# The functions of nixpkgs' lib that the flake uses, with the same results.
let
  inherit (builtins)
    attrNames
    concatLists
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    functionArgs
    genList
    head
    intersectAttrs
    isAttrs
    isFunction
    isList
    isString
    length
    listToAttrs
    map
    mapAttrs
    match
    readFile
    replaceStrings
    stringLength
    substring
    tail
    toJSON
    ;

  genAttrs =
    names: f:
    listToAttrs (
      map (name: {
        inherit name;
        value = f name;
      }) names
    );
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  filterAttrs =
    keep: set:
    listToAttrs (
      concatMap (
        name:
        if keep name set.${name} then
          [
            {
              inherit name;
              value = set.${name};
            }
          ]
        else
          [ ]
      ) (attrNames set)
    );
  concatMapStringsSep =
    separator: f: list:
    concatStringsSep separator (map f list);
  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
  escapeShellArg = text: "'${replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";
  escapeRegex = replaceStrings [ "." "[" "]" "/" ":" ] [ "\\." "\\[" "\\]" "/" ":" ];
  last = list: elemAt list (length list - 1);
  # A name that is no identifier stands in quotes.
  showOption = concatMapStringsSep "." (
    name: if match "[a-zA-Z_][a-zA-Z0-9_'-]*" name == null then toJSON name else name
  );

  lib = modules // {
    inherit
      concatMapStringsSep
      escapeShellArg
      filterAttrs
      genAttrs
      hasPrefix
      last
      mapAttrsToList
      showOption
      ;
    inherit (builtins)
      all
      any
      attrNames
      concatLists
      concatMap
      concatStringsSep
      elem
      elemAt
      filter
      foldl'
      head
      isFunction
      mapAttrs
      replaceStrings
      stringLength
      tail
      ;
    throwIf = condition: message: if condition then throw message else (value: value);
    getAttrFromPath = path: set: foldl' (within: name: within.${name}) set path;
    subtractLists = without: filter (item: !(elem item without));
    hasInfix = part: text: length (builtins.split (escapeRegex part) text) > 1;
    toLower =
      let
        letters = genList (n: n) 26;
        of = alphabet: map (n: substring n 1 alphabet) letters;
      in
      replaceStrings (of "ABCDEFGHIJKLMNOPQRSTUVWXYZ") (of "abcdefghijklmnopqrstuvwxyz");
    init = list: genList (elemAt list) (length list - 1);
    singleton = item: [ item ];
    toList = value: if isList value then value else [ value ];
    optional = condition: item: if condition then [ item ] else [ ];
    optionals = condition: list: if condition then list else [ ];
    optionalAttrs = condition: set: if condition then set else { };
    optionalString = condition: text: if condition then text else "";
    removePrefix =
      prefix: text:
      if hasPrefix prefix text then substring (stringLength prefix) (stringLength text) text else text;
    removeSuffix =
      suffix: text:
      let
        kept = stringLength text - stringLength suffix;
      in
      if kept >= 0 && substring kept (-1) text == suffix then substring 0 kept text else text;
    splitString =
      separator: text: filter isString (builtins.split (escapeRegex separator) (toString text));
    escapeShellArgs = concatMapStringsSep " " escapeShellArg;
    importTOML = file: fromTOML (readFile file);
    getExe = package: "${package}/bin/${package.meta.mainProgram or package.pname}";
    getLib = package: package.lib or package;
    licenses = {
      asl20.spdxId = "Apache-2.0";
      mit.spdxId = "MIT";
    };
    systems = {
      flakeExposed = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "armv7l-linux"
        "i686-linux"
        "aarch64-darwin"
        "riscv64-linux"
        "x86_64-freebsd"
      ];
      elaborate =
        system:
        let
          parts = match "([^-]*)-(.*)" system;
          cpu = head parts;
        in
        {
          inherit system;
          isLinux = last parts == "linux";
          is64bit = match ".*64.*" cpu != null;
          isStatic = false;
          isMusl = false;
          parsed.cpu.name = cpu;
          canExecute = other: other.system == system;
        };
    };
    callPackageWith =
      scope: function: arguments:
      let
        f = if isFunction function then function else import function;
      in
      f (intersectAttrs (functionArgs f) scope // arguments);
    fileset = {
      unions = files: files;
      toSource =
        { root, fileset }:
        builtins.path {
          path = root;
          name = "source";
          filter =
            path: _:
            builtins.any (
              kept:
              let
                keep = toString kept;
              in
              path == keep || hasPrefix "${keep}/" path || hasPrefix "${path}/" keep
            ) fileset;
        };
    };
  };

  # Modules: enough of lib/modules.nix, options.nix and types.nix to declare an
  # option several times, to check and merge its definitions, and to apply to them.
  modules = {
    inherit evalModules types;
    mkOption = option: option // { _type = "option"; };
    mkEnableOption =
      what:
      modules.mkOption {
        type = types.bool;
        default = false;
        description = "Whether to enable ${what}.";
      };
    mkIf = condition: content: {
      _type = "if";
      inherit condition content;
    };
    mkForce = content: {
      _type = "override";
      priority = 50;
      inherit content;
    };
    literalExpression = text: {
      _type = "literalExpression";
      inherit text;
    };
  };

  show = showOption;
  mismatch =
    loc: type: definition:
    throw "A definition for option `${show loc}' is not of type `${type.description}'. Definition values: ${toJSON definition}";
  checked =
    loc: type: definition:
    if type.check definition then definition else mismatch loc type definition;
  one =
    loc: definitions:
    if builtins.all (definition: definition == head definitions) definitions then
      head definitions
    else
      throw "The option `${show loc}' has conflicting definition values: ${toJSON definitions}";
  leaf = description: check: {
    inherit description check;
    merge = one;
  };
  isPackage = value: isAttrs value && (value.type or "") == "derivation";

  types = {
    bool = leaf "boolean" builtins.isBool;
    str = leaf "string" isString;
    path = leaf "absolute path" (value: builtins.isPath value || hasPrefix "/" "${value}");
    package = leaf "package" isPackage;
    unspecified = leaf "unspecified value" (_: true) // {
      merge = _: last;
    };
    ints.between =
      low: high:
      leaf "integer between ${toString low} and ${toString high} (both inclusive)" (
        value: builtins.isInt value && value >= low && value <= high
      );
    enum = values: leaf "one of ${concatMapStringsSep ", " toJSON values}" (value: elem value values);
    strMatching =
      pattern:
      leaf "string matching the pattern ${pattern}" (
        value: isString value && match pattern value != null
      );
    nullOr =
      type:
      leaf "null or ${type.description}" (value: value == null || type.check value)
      // {
        merge =
          loc: definitions: if elem null definitions then one loc definitions else type.merge loc definitions;
      };
    either = a: b: leaf "${a.description} or ${b.description}" (value: a.check value || b.check value);
    oneOf = list: foldl' types.either (head list) (tail list);
    addCheck = type: test: type // { check = value: type.check value && test value; };
    coercedTo =
      from: coerce: to:
      let
        coerced = value: if from.check value then coerce value else value;
      in
      leaf "${to.description} or ${from.description} convertible to it" (value: to.check (coerced value))
      // {
        merge = loc: definitions: to.merge loc (map coerced definitions);
      };
    listOf =
      type:
      leaf "list of ${type.description}" isList
      // {
        merge =
          loc: definitions:
          map (item: type.merge (loc ++ [ "*" ]) [ (checked (loc ++ [ "*" ]) type item) ]) (
            concatLists definitions
          );
      };
    attrsOf =
      type:
      leaf "attribute set of ${type.description}" isAttrs
      // {
        element = type;
        join = other: types.attrsOf (if type ? join then type.join other.element else type);
        merge =
          loc: definitions:
          mapAttrs (
            name: values:
            let
              here = loc ++ [ name ];
            in
            type.merge here (map (checked here type) (discharge values))
          ) (builtins.zipAttrsWith (_: values: values) (concatMap push definitions));
      };
    submodule = module: submodule [ module ];
  };
  submodule =
    modules:
    leaf "submodule" (value: isAttrs value || isFunction value)
    // {
      inherit modules;
      join = other: submodule (modules ++ other.modules);
      merge =
        loc: definitions:
        (evalModules {
          modules = modules ++ definitions;
          specialArgs.name = last loc;
          prefix = loc;
        }).config;
    };

  isIf = value: isAttrs value && (value._type or "") == "if";
  isOverride = value: isAttrs value && (value._type or "") == "override";
  # What is left of definitions: those that no condition takes away and no stronger
  # one replaces.
  discharge =
    definitions:
    let
      weigh =
        priority: value:
        if isIf value then
          if value.condition then weigh priority value.content else [ ]
        else if isOverride value then
          weigh value.priority value.content
        else
          [ { inherit priority value; } ];
      weighed = concatMap (weigh 100) definitions;
      first = foldl' (least: one: if one.priority < least then one.priority else least) 100 weighed;
    in
    map (one: one.value) (filter (one: one.priority == first) weighed);
  # mkIf is pushed down to the leaves, so that which options are set never depends
  # on a condition, only what they are set to.
  push =
    value:
    if isIf value then
      map (mapAttrs (
        _: content: {
          _type = "if";
          inherit (value) condition;
          inherit content;
        }
      )) (push value.content)
    else
      [ value ];

  isOption = value: (value._type or "") == "option";
  mergeOption =
    loc: a: b:
    if a ? apply && b ? apply then
      throw "The option `${show loc}' is declared with apply twice"
    else
      a // b // (if a ? type.join && b ? type then { type = a.type.join b.type; } else { });
  mergeOptions =
    loc:
    foldl' (
      merged: options:
      merged
      // mapAttrs (
        name: option:
        if !(merged ? ${name}) then
          option
        else if isOption option then
          mergeOption (loc ++ [ name ]) merged.${name} option
        else
          mergeOptions (loc ++ [ name ]) [
            merged.${name}
            option
          ]
      ) options
    ) { };

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
    }:
    let
      arguments = specialArgs // {
        inherit lib config options;
      };
      load =
        module:
        let
          value =
            if isFunction module then
              module arguments
            else if isAttrs module then
              module
            else
              head (load (import module));
          isFull = value ? options || value ? config;
        in
        [ (if isFull then value else { config = removeAttrs value [ "imports" ]; }) ]
        ++ concatMap load (value.imports or [ ]);
      loaded = concatMap load modules;
      options = mergeOptions prefix (map (module: module.options or { }) loaded);
      fill =
        loc: options: definitions:
        let
          unknown = filter (name: !(options ? ${name})) (concatMap attrNames definitions);
        in
        if unknown != [ ] then
          throw "The option `${show (loc ++ [ (head unknown) ])}' does not exist."
        else
          mapAttrs (
            name: option:
            let
              here = loc ++ [ name ];
              given = concatMap (
                definition: if definition ? ${name} then [ definition.${name} ] else [ ]
              ) definitions;
              values = map (checked here option.type) (discharge given);
              value =
                if values != [ ] then
                  option.type.merge here values
                else if option ? default then
                  option.type.merge here [ (checked here option.type option.default) ]
                else
                  throw "The option `${show here}' was accessed but has no value defined.";
            in
            if !isOption option then
              fill here option (concatMap push given)
            else
              (option.apply or (value: value)) value
          ) options;
      config = fill prefix options (concatMap (module: push (module.config or { })) loaded);
    in
    {
      inherit config options;
    };
in
lib

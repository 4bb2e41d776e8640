import ArgumentParser
import Foundation

struct ContextCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "context", abstract: "Keeps profiles of control planes: where they are, whom to trust, which token.",
        discussion: """
            They stand in $XDG_CONFIG_HOME/outrigger/config.yaml (else ~/.config/outrigger/config.yaml), readable by their owner alone.

            EXAMPLES
              outrigger context set prod --address mesh.example:15010 --ca ca.pem --token-file token --use
              outrigger context list
              outrigger context use prod
            """,
        subcommands: [ContextSet.self, ContextUse.self, ContextList.self, ContextDelete.self])

    static var path: String { ProfileFile.path(ProcessInfo.processInfo.environment) }
}

struct ContextSet: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "set", abstract: "Makes a profile, or changes what is named of one.")

    @Argument(help: ArgumentHelp(valueName: "name"))
    var name: String

    @Option(help: ArgumentHelp("host:port, http://host:port or https://host:port.", valueName: "address"))
    var address: String?

    @Option(
        name: .customLong("ca"), help: ArgumentHelp("PEM of the authority that signed the control plane's certificate.", valueName: "file"))
    var authority: String?

    @Option(name: .customLong("server-name"), help: ArgumentHelp("The name in that certificate (default: the host).", valueName: "name"))
    var serverName: String?

    @Option(help: ArgumentHelp("PEM of our own certificate.", valueName: "file"))
    var certificate: String?

    @Option(help: ArgumentHelp("PEM of its key.", valueName: "file"))
    var key: String?

    @Option(name: .customLong("token-file"), help: ArgumentHelp("Where the token stands; - is standard input.", valueName: "file"))
    var tokenFile: String?

    @Option(name: .shortAndLong, help: ArgumentHelp("Of commands that name none.", valueName: "namespace"))
    var namespace: String?

    @Flag(help: "Uses it from now on.")
    var use = false

    func validate() throws {
        if name.isEmpty { throw ValidationError("A context has a name.") }
    }

    func run() throws {
        let path = ContextCommand.path
        var file = try ProfileFile.load(path)
        try change(&file, token: try tokenFile.map(Self.read))
        try file.save(path)
        Console.say("context \"\(name)\" is in \(path)\(file.current == name ? ", and in use" : "")")
    }

    /// A relative path would mean another file tomorrow.
    func change(_ file: inout ProfileFile, token: String?) throws {
        func absolute(_ path: String?) -> String? { path.map { URL(fileURLWithPath: $0).standardizedFileURL.path } }
        var profile: ControlProfile
        if let known = file.contexts[name] {
            profile = known
        } else {
            guard let address else { throw Failure(message: "a new context needs an --address", status: Failure.usage) }
            profile = ControlProfile(address: address)
        }
        if let address { profile.address = address }
        if let authority = absolute(authority) { profile.authority = authority }
        if let serverName { profile.serverName = serverName }
        if let certificate = absolute(certificate) { profile.certificate = certificate }
        if let key = absolute(key) { profile.key = key }
        if let token { profile.token = token }
        if let namespace { profile.namespace = namespace }
        _ = try ControlAddress(profile.address, hasAuthority: profile.authority != nil)
        file.contexts[name] = profile
        // The first one is what people mean.
        if use || file.contexts.count == 1 { file.current = name }
    }

    private static func read(_ path: String) throws -> String {
        let text: String?
        if path == "-" {
            text = try StandardInput.read()
        } else {
            text = try? String(contentsOfFile: path, encoding: .utf8)
        }
        guard let text else { throw Failure(message: "\(path) cannot be read") }
        let token = text.trimmingCharacters(in: .whitespacesAndNewlines)
        guard !token.isEmpty, token.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
            throw Failure(message: "\(path) holds no token: expected one word")
        }
        return token
    }
}

struct ContextUse: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "use", abstract: "Chooses the profile that commands use.")

    @Argument(help: ArgumentHelp(valueName: "name"))
    var name: String

    func run() throws {
        var file = try ProfileFile.load(ContextCommand.path)
        _ = try file.profile(named: name)
        file.current = name
        try file.save(ContextCommand.path)
        Console.say("commands use context \"\(name)\" from now on")
    }
}

struct ContextList: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "Lists the profiles.")

    func run() throws {
        let file = try ProfileFile.load(ContextCommand.path)
        guard !file.contexts.isEmpty else { return Console.say("there are no contexts; commands use \(ControlAddress.usual)") }
        let screen = Screen.standard
        screen.print(Self.table(file).text(colored: screen.usesColor))
    }

    static func table(_ file: ProfileFile) -> TextTable {
        var table = TextTable(["", "NAME", "ADDRESS", "NAMESPACE", "TOKEN", "TRUSTS"])
        for (name, profile) in file.contexts.sorted(by: { $0.key < $1.key }) {
            table.add([
                file.current == name ? "*" : "", TextTable.Cell(name), TextTable.Cell(profile.address),
                TextTable.Cell(profile.namespace, else: "-"), profile.token == nil ? "-" : "yes",
                TextTable.Cell(profile.authority, else: "-"),
            ])
        }
        return table
    }
}

struct ContextDelete: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "delete", abstract: "Forgets a profile.")

    @Argument(help: ArgumentHelp(valueName: "name"))
    var name: String

    func run() throws {
        var file = try ProfileFile.load(ContextCommand.path)
        _ = try file.profile(named: name)
        file.contexts[name] = nil
        if file.current == name { file.current = nil }
        try file.save(ContextCommand.path)
        Console.say("context \"\(name)\" is gone\(file.current == nil ? "; none is in use" : "")")
    }
}

struct Completion: ParsableCommand {
    enum Shell: String, ExpressibleByArgument, CaseIterable {
        case bash
        case zsh
        case fish
    }

    static let configuration = CommandConfiguration(
        abstract: "Prints the script by which a shell completes commands.",
        discussion: """
            EXAMPLES
              outrigger completion bash > ~/.local/share/bash-completion/completions/outrigger
              outrigger completion zsh  > ~/.zfunc/_outrigger
              outrigger completion fish > ~/.config/fish/completions/outrigger.fish
            """)

    @Argument(help: ArgumentHelp("bash, zsh or fish.", valueName: "shell"))
    var shell: Shell

    func run() throws {
        let shell: CompletionShell =
            switch shell {
            case .bash: .bash
            case .zsh: .zsh
            case .fish: .fish
            }
        Console.print(OutriggerCommand.completionScript(for: shell))
    }
}

import ArgumentParser
import ControlAPI

struct TokenCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "token", abstract: "Makes, lists and revokes tokens: to join the mesh, and to use the API.",
        subcommands: [TokenCreate.self, TokenList.self, TokenRevoke.self])
}

struct TokenCreate: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "create", abstract: "Makes a token and prints it, this once.",
        discussion: """
            For one proxy to join (--node, --gateway), or for calls of the API (--role). Only the token goes to standard output.

            EXAMPLES
              outrigger token create --node cart.shop > cart.token
              outrigger token create --role read --ttl 30d
            """)

    @Option(help: ArgumentHelp("For a proxy of this VirtualNode: NAME, NAME.NAMESPACE or NAMESPACE/NAME.", valueName: "name"))
    var node: String?

    @Option(help: ArgumentHelp("For a proxy of this VirtualGateway, named likewise.", valueName: "name"))
    var gateway: String?

    @Option(
        help: ArgumentHelp("For calls of the API: read, write or admin.", valueName: "role"), transform: Self.role)
    var role: AccessRole?

    @Option(name: .customLong("ttl"), help: ArgumentHelp("How long it is valid (default: 1h to join, 90d for the API).", valueName: "time"))
    var timeToLive: TimeSpan?

    @Option(name: .shortAndLong, help: ArgumentHelp("The namespace of a name that has none.", valueName: "namespace"))
    var namespace: String?

    @OptionGroup var control: ControlOptions

    func validate() throws {
        guard [node != nil, gateway != nil, role != nil].count(where: { $0 }) == 1 else {
            throw ValidationError("Say what it is for: --node, --gateway or --role.")
        }
        if let timeToLive, timeToLive.seconds < 1 { throw ValidationError("--ttl: expected 1s or more.") }
    }

    func run(_ session: Session) throws {
        var request = TokenRequest(purpose: role == nil ? .join : .api, role: role, secondsToLive: timeToLive?.seconds)
        if let name = node ?? gateway {
            let usual = namespace ?? session.namespace ?? "default"
            request.subject = Self.subject(name, kind: node == nil ? "VirtualGateway" : "VirtualNode", namespace: usual)
        }
        let created = try session.post("/v1/tokens", request, as: TokenCreated.self)
        session.screen.print(created.token)
        session.screen.note("token \(created.id), valid until \(Times.clock(created.expires)) UTC; it is not shown again")
    }

    private static func role(_ text: String) throws -> AccessRole {
        guard let role = AccessRole(rawValue: text) else { throw ValidationError("expected read, write or admin, found \"\(text)\"") }
        return role
    }

    static func subject(_ text: String, kind: String, namespace: String) -> ResourceName {
        if let slash = text.firstIndex(of: "/") {
            return ResourceName(kind: kind, namespace: String(text[..<slash]), name: String(text[text.index(after: slash)...]))
        }
        // The names of Kubernetes resources of these kinds have no dots of their own in practice; the last one parts the namespace off.
        if let dot = text.lastIndex(of: ".") {
            return ResourceName(kind: kind, namespace: String(text[text.index(after: dot)...]), name: String(text[..<dot]))
        }
        return ResourceName(kind: kind, namespace: namespace, name: text)
    }
}

struct TokenList: ControlCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "Lists tokens, not their secrets.")

    @OptionGroup var control: ControlOptions

    @Option(name: .customShort("o"), help: ArgumentHelp("table or json.", valueName: "format"))
    var output = ListOutput.table

    func run(_ session: Session) throws {
        let items = try session.get("/v1/tokens", as: [TokenItem].self)
        if output == .json { return try session.printJSON(items) }
        guard !items.isEmpty else { return session.screen.note("there are no tokens") }
        var table = TextTable(["ID", "FOR", "STATE", "CREATED", "EXPIRES"])
        for item in items {
            let purpose = item.subject.map { "join \($0.path)" } ?? "api \(item.role?.rawValue ?? "")"
            table.add([
                TextTable.Cell(item.id), TextTable.Cell(purpose), TextTable.Cell(item.state, item.state == "valid" ? .good : .dim),
                "\(Times.clock(item.created))", "\(Times.clock(item.expires))",
            ])
        }
        session.show(table)
    }
}

struct TokenRevoke: ControlCommand {
    static let configuration = CommandConfiguration(commandName: "revoke", abstract: "Makes a token worthless.")

    @Argument(help: ArgumentHelp("Of 'outrigger token list'.", valueName: "id"))
    var id: String

    @OptionGroup var control: ControlOptions

    func run(_ session: Session) throws {
        try session.call(ControlCall(method: "DELETE", path: "/v1/tokens/\(ControlPath.escaped(id))"))
        session.screen.print("token \(id) revoked")
    }
}

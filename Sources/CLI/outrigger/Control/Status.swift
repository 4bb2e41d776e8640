import ArgumentParser
import ControlAPI
import Foundation

struct Status: ControlCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows the proxies: connected or not, which configuration they run, and what they refused.",
        discussion: """
            APPLIED is 'yes' when a proxy runs what it should, 'accepted' when it has taken it and does not run it yet.

            EXAMPLES
              outrigger status
              outrigger status --watch
              outrigger status -o json
            """)

    @OptionGroup var control: ControlOptions

    @Flag(name: .shortAndLong, help: "Looks again and again.")
    var watch = false

    @Option(help: ArgumentHelp("Between two looks of --watch (default: 2s).", valueName: "time"), transform: TimeSpan.interval)
    var interval = TimeSpan(seconds: 2)

    @Option(name: .customShort("o"), help: ArgumentHelp("table or json.", valueName: "format"))
    var output = ListOutput.table

    func run(_ session: Session) throws {
        func look() throws -> MeshStatus { try session.get("/v1/status") }
        if output == .json { return try session.printJSON(look()) }
        func page() throws -> String { StatusPage(try look(), address: session.client.address, screen: session.screen).text }
        guard watch else { return session.screen.print(try page()) }
        try session.watch(every: interval, page)
    }
}

struct StatusPage {
    let text: String

    init(_ status: MeshStatus, address: String, screen: Screen) {
        let now = screen.now()
        var lines = [
            "outriggerd \(status.version) at \(address), up \(Times.age(status.started, now: now)): revision \(status.revision), "
                + "\(counted(status.resources, "resource")), \(counted(status.nodes.count(where: \.isConnected), "proxy")) connected"
        ]
        if let rollout = status.rollout { lines.append(RolloutText.line(rollout)) }
        if status.nodes.isEmpty {
            lines.append("no proxy has connected yet: outrigger-proxy --control-plane \(address) --node NAMESPACE/NAME")
        } else {
            var table = TextTable(["NODE", "INSTANCE", "STATE", "VERSION", "APPLIED", "CONFIG AGE>", "SEEN>"])
            for node in status.nodes {
                let name = node.subject.kind == "VirtualGateway" ? "\(node.subject.path) (gateway)" : node.subject.path
                table.add([
                    TextTable.Cell(name), TextTable.Cell(node.instance), Self.state(node),
                    TextTable.Cell(node.wanted?.shortVersion, else: "-"), Self.applied(node),
                    TextTable.Cell(node.configAge.map(Times.span), else: "-"),
                    TextTable.Cell(node.lastSeen.map { Times.age($0, now: now) }, else: "-"),
                ])
                if let rejection = node.rejection { table.add(note: "refused: \(rejection)", .bad) }
            }
            lines.append(table.text(colored: screen.usesColor))
        }
        // A mesh in which nobody joins has nothing to tell.
        let plain = status.nodes.filter { $0.isConnected && $0.identity == nil }
        if !plain.isEmpty, status.nodes.contains(where: { $0.identity != nil }) {
            let names = plain.prefix(10).map { "\($0.subject.path) \($0.instance)" }.joined(separator: ", ")
            let more = plain.count > 10 ? " and \(plain.count - 10) more" : ""
            lines.append("have no certificate of the mesh: \(harmless(names))\(more)")
        }
        if let breakers = status.breakers, !breakers.isEmpty {
            let places = breakers.prefix(5).map { "\($0.service)\($0.endpoint.map { "/\($0)" } ?? "") \($0.state) at \($0.node)" }
            let more = breakers.count > 5 ? " and \(breakers.count - 5) more" : ""
            lines.append("breakers (outrigger breaker list): " + harmless(places.joined(separator: ", ")) + more)
        }
        if !status.faults.isEmpty {
            lines.append(screen.styled("cannot be compiled, these keep what they have:", .bad))
            lines += status.faults.map { "  \(harmless($0.text))" }
        }
        text = lines.joined(separator: "\n")
    }

    static func state(_ node: NodeItem) -> TextTable.Cell {
        let style: TextStyle =
            switch node.state {
            case "live": .good
            case "lost": .bad
            case "left": .dim
            default: .warning
            }
        return TextTable.Cell(node.state, style)
    }

    static func applied(_ node: NodeItem) -> TextTable.Cell {
        if node.hasApplied { return TextTable.Cell("yes", .good) }
        if node.rejection != nil { return TextTable.Cell("refused", .bad) }
        if !node.isConnected { return TextTable.Cell("-", .dim) }
        return TextTable.Cell(node.wanted != nil && node.acknowledged == node.wanted ? "accepted" : "no", .warning)
    }
}

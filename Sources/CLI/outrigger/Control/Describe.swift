import ArgumentParser
import ControlAPI
import MeshCompiler
import MeshModel

struct Describe: ControlCommand {
    static let configuration = CommandConfiguration(
        abstract: "Tells all there is to know about a resource.",
        discussion: """
            Its document, its history, who uses it and whom it uses; of a node or gateway also its proxies with their versions and \
            endpoints, and what the compiler warns of.

            EXAMPLES
              outrigger describe vn cart -n shop
              outrigger describe vr/color
            """)

    @Argument(help: ArgumentHelp("KIND NAME, or KIND/NAME.", valueName: "resource"))
    var words: [String]

    @OptionGroup var control: ControlOptions

    @Option(name: .shortAndLong, help: ArgumentHelp("The namespace (default: the context's, or 'default').", valueName: "namespace"))
    var namespace: String?

    func validate() throws {
        guard try ResourceSelection(words, namespace: "default").names.count == 1 else { throw ValidationError("Name one resource.") }
    }

    func run(_ session: Session) throws {
        let selection = try ResourceSelection(words, namespace: namespace ?? session.namespace ?? "default")
        guard let name = selection.names.first else { return }
        let kind = selection.kind?.kind
        let all = try session.get("/v1/resources", as: ResourceList.self)
        guard let item = all.items.first(where: { $0.resource == name }) else {
            throw Failure(message: "\(name.short) is not in \(name.namespace.map { "namespace \"\($0)\"" } ?? "the mesh")")
        }
        let history = try session.get("/v1/history", ["limit": "1000"], as: [HistoryItem].self)
        let isSubject = kind == .virtualNode || kind == .virtualGateway
        let status = isSubject ? try session.get("/v1/status", as: MeshStatus.self) : nil
        let page = Description(item: item, kind: kind, all: all.items, history: history, status: status, screen: session.screen)
        session.screen.print(page.text)
    }
}

/// The page of one resource.
private struct Description {
    private static let maxHistory = 10

    private(set) var text = ""
    private let screen: Screen

    init(item: ResourceItem, kind: ResourceKind?, all: [ResourceItem], history: [HistoryItem], status: MeshStatus?, screen: Screen) {
        self.screen = screen
        let resources = References.resources(all)
        let key = kind.map { ResourceKey(kind: $0, namespace: item.resource.namespace, name: item.resource.name) }
        let now = screen.now()

        var head = TextTable(["", ""])
        head.add(["Name:", TextTable.Cell(item.resource.name, .bold)])
        if let namespace = item.resource.namespace { head.add(["Namespace:", TextTable.Cell(namespace)]) }
        head.add(["Kind:", "\(item.resource.kind) (\(item.apiVersion))"])
        head.add(["Generation:", "\(item.generation)"])
        head.add(["Revision:", "\(item.revision)"])
        head.add(["Created:", "\(Times.clock(item.created)) (\(Times.age(item.created, now: now)) ago)"])
        head.add(["Changed:", "\(Times.clock(item.changed)) (\(Times.age(item.changed, now: now)) ago)"])
        text = head.text(colored: screen.usesColor, titled: false)

        if let key {
            let there = Dictionary(resources.all.map { ($0.key, $0) }) { $1 }
            let uses = there[key].map(References.of)?.sorted() ?? []
            section("Uses", uses.map { "\($0.path)\(there[$0] == nil ? " (not there)" : "")" })
            section("Used by", References.users(of: key, in: resources).map(\.path))
            if let status { proxies(of: item.resource, status) }
            warnings(key, resources, status)
        }
        changes(of: item.resource, history)
        section("Document", item.document.split(separator: "\n", omittingEmptySubsequences: false).map(String.init), showsNone: false)
    }

    private mutating func section(_ title: String, _ lines: [String], showsNone: Bool = true) {
        var lines = lines
        while lines.last == "" { lines.removeLast() }
        guard !lines.isEmpty || showsNone else { return }
        text += "\n\(title):\(lines.isEmpty ? " none" : "")"
        for line in lines { text += line.isEmpty ? "\n" : "\n  \(harmless(line))" }
    }

    private mutating func section(_ title: String, _ table: TextTable) {
        text += "\n\(title):"
        for line in table.text(colored: screen.usesColor).split(separator: "\n") { text += "\n  \(line)" }
    }

    private mutating func proxies(of name: ResourceName, _ status: MeshStatus) {
        let nodes = status.nodes.filter { $0.subject == name }
        guard !nodes.isEmpty else { return section("Proxies", []) }
        var table = TextTable([
            "INSTANCE", "STATE", "ENDPOINT", "AGENT", "WANTED", "ACCEPTED", "APPLIED", "CONFIG AGE>", "CERTIFICATE ENDS",
        ])
        for node in nodes {
            table.add([
                TextTable.Cell(node.instance), StatusPage.state(node), TextTable.Cell(node.address, else: "-"), TextTable.Cell(node.agent),
                TextTable.Cell(node.wanted?.shortVersion, else: "-"), TextTable.Cell(node.acknowledged?.shortVersion, else: "-"),
                TextTable.Cell(node.applied?.shortVersion, else: "-"), TextTable.Cell(node.configAge.map(Times.span), else: "-"),
                TextTable.Cell(node.certificateExpires.map(Times.clock), else: "-"),
            ])
            if let rejection = node.rejection { table.add(note: "refused: \(rejection)", .bad) }
            if let identity = node.identity {
                table.add(note: "known as \(identity)\(node.takesTLS == true ? ", called with TLS" : "")", .dim)
            }
        }
        section("Proxies", table)
    }

    private mutating func warnings(_ key: ResourceKey, _ resources: MeshResources, _ status: MeshStatus?) {
        let subject: MeshCompiler.Subject
        switch key.kind {
        case .virtualNode: subject = .virtualNode(key)
        case .virtualGateway: subject = .virtualGateway(key)
        default: return
        }
        var lines = (status?.faults ?? []).filter { $0.resource == key.description }.map(\.text)
        switch MeshCompiler.compile(resources, for: subject) {
        case .success(let node): lines += node.warnings.map(\.description)
        case .failure(let failure): lines += failure.errors.map(\.description)
        }
        section("Warnings", lines)
    }

    private mutating func changes(of name: ResourceName, _ history: [HistoryItem]) {
        let found = history.compactMap { item in item.changes.first { $0.resource == name }.map { (item, $0.action) } }
        guard !found.isEmpty else { return }
        var table = TextTable(["REVISION>", "TIME", "ACTOR", "CHANGE", "REASON"])
        for (item, action) in found.prefix(Self.maxHistory) {
            table.add([
                "\(item.revision)", "\(Times.clock(item.time))", TextTable.Cell(item.actor), TextTable.Cell(action.rawValue),
                TextTable.Cell(item.reason, else: ""),
            ])
        }
        if found.count > Self.maxHistory { table.add(note: "and \(found.count - Self.maxHistory) older") }
        section("History", table)
    }
}

extension ResourceKey {
    /// `VirtualNode shop/cart`.
    fileprivate var path: String { "\(kind.rawValue) \(namespace.map { "\($0)/" } ?? "")\(name)" }
}

extension String {
    /// Enough of a content hash to tell versions apart.
    var shortVersion: String { String(prefix(12)) }
}

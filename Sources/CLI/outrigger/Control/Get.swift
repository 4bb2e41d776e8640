import ArgumentParser
import ControlAPI
import Foundation

struct Get: ControlCommand {
    enum Output: String, ExpressibleByArgument, CaseIterable {
        case table
        case wide
        case yaml
        case json
        case name
    }

    static let configuration = CommandConfiguration(
        abstract: "Shows resources of the mesh.",
        discussion: """
            Kinds as kubectl's users type them: VirtualNode, virtualnodes, vn; 'all' is every kind. yaml is what was applied, comments \
            included.

            EXAMPLES
              outrigger get vn
              outrigger get all -A
              outrigger get virtualrouter color -n shop -o yaml
              outrigger get vr/color --at 17 -o yaml
              outrigger get all -A -o yaml > backup.yaml
            """)

    @Argument(help: ArgumentHelp("KIND [NAME...], KIND/NAME... or all.", valueName: "resource"))
    var words: [String]

    @OptionGroup var control: ControlOptions

    @Option(name: .shortAndLong, help: ArgumentHelp("The namespace (default: the context's, or 'default').", valueName: "namespace"))
    var namespace: String?

    @Flag(name: [.customShort("A"), .customLong("all-namespaces")], help: "Of all namespaces.")
    var allNamespaces = false

    @Option(name: [.customShort("o"), .customLong("output")], help: ArgumentHelp("table, wide, yaml, json or name.", valueName: "format"))
    var output = Output.table

    @Option(help: ArgumentHelp("As it was at a revision, or at a time (2026-11-23T14:00:00Z).", valueName: "revision|time"))
    var at: String?

    @Flag(name: .shortAndLong, help: "Goes on with what changes.")
    var watch = false

    func validate() throws {
        _ = try ResourceSelection(words, namespace: "default")
        _ = try moment()
        if namespace != nil, allNamespaces { throw ValidationError("--namespace and --all-namespaces exclude each other.") }
        if watch, at != nil { throw ValidationError("--watch is of now, --at of then.") }
    }

    func run(_ session: Session) throws {
        let selection = try ResourceSelection(words, namespace: namespace ?? session.namespace ?? "default")
        var list = try fetch(selection, session)
        try show(list, selection, session)
        guard watch else { return }
        while session.screen.pause(.seconds(2)) {
            guard let next = try session.patiently({ try fetch(selection, session) }) else { continue }
            guard next.revision != list.revision else { continue }
            let before = Dictionary(list.items.map { ($0.resource, $0) }) { $1 }
            let names = Set(next.items.map(\.resource))
            let gone = list.items.filter { !names.contains($0.resource) }
            let changed = ResourceList(revision: next.revision, items: next.items.filter { before[$0.resource] != $0 })
            if !changed.items.isEmpty { try show(changed, selection, session, isFollowing: true) }
            if output != .json, output != .yaml { for item in gone { session.screen.print("\(item.resource.short) deleted") } }
            list = next
        }
    }

    private func moment() throws -> (revision: String?, time: String?) {
        guard let at else { return (nil, nil) }
        if let revision = Int(at), revision >= 0 { return ("\(revision)", nil) }
        guard Times.date(at) != nil else {
            throw ValidationError("--at: expected a revision (17) or a time (2026-11-23T14:00:00Z), found \"\(at)\".")
        }
        return (nil, at)
    }

    private func fetch(_ selection: ResourceSelection, _ session: Session) throws -> ResourceList {
        let (revision, time) = try moment()
        let ofNamespace = allNamespaces ? nil : namespace ?? session.namespace ?? "default"
        func list(_ kind: KindName?, _ name: String?) throws -> ResourceList {
            try session.get(
                "/v1/resources",
                [
                    "kind": kind?.name, "namespace": kind?.isNamespaced == true ? ofNamespace : nil, "name": name,
                    "revision": revision, "time": time,
                ])
        }
        guard !selection.names.isEmpty else {
            var all = try list(selection.kind, nil)
            all.items.removeAll { item in
                guard let ofNamespace, let namespace = item.resource.namespace else { return false }
                return namespace != ofNamespace
            }
            return all
        }
        var result = ResourceList(revision: 0, items: [])
        var missing: [String] = []
        for name in selection.names {
            let found = try list(KindName(name.kind), name.name)
            if found.items.isEmpty {
                missing.append(
                    "\(name.short) is not in \(name.namespace == nil || allNamespaces ? "the mesh" : "namespace \"\(name.namespace!)\"")")
            }
            result.revision = found.revision
            result.items += found.items
        }
        guard missing.isEmpty || watch else { throw Failure(message: missing.joined(separator: "\n")) }
        return result
    }

    private func show(_ list: ResourceList, _ selection: ResourceSelection, _ session: Session, isFollowing: Bool = false) throws {
        switch output {
        case .json: try session.printJSON(list)
        case .yaml: session.screen.print(list.items.map { $0.yaml }.joined(separator: "---\n"))
        case .name: for item in list.items { session.screen.print(item.resource.short) }
        case .table, .wide:
            guard !list.items.isEmpty else {
                return session.screen.note("nothing found\(allNamespaces ? "" : " (-A looks into all namespaces)")")
            }
            let table = Self.table(
                list, withKind: selection.kind == nil, withNamespace: allNamespaces, isWide: output == .wide, now: session.screen.now())
            session.screen.print(table.text(colored: session.screen.usesColor, titled: !isFollowing))
        }
    }

    static func table(_ list: ResourceList, withKind: Bool, withNamespace: Bool, isWide: Bool, now: Date) -> TextTable {
        var titles = ["NAME", "GENERATION>", "REVISION>", "CHANGED>"]
        if withKind { titles.insert("KIND", at: 0) }
        if withNamespace { titles.insert("NAMESPACE", at: 0) }
        if isWide { titles += ["AGE>", "API VERSION"] }
        var table = TextTable(titles)
        for item in list.items {
            var cells: [TextTable.Cell] = [
                TextTable.Cell(item.resource.name), "\(item.generation)", "\(item.revision)", "\(Times.age(item.changed, now: now))",
            ]
            if withKind { cells.insert(TextTable.Cell(item.resource.kind), at: 0) }
            if withNamespace { cells.insert(TextTable.Cell(item.resource.namespace), at: 0) }
            if isWide { cells += ["\(Times.age(item.created, now: now))", TextTable.Cell(item.apiVersion)] }
            table.add(cells)
        }
        return table
    }
}

extension ResourceItem {
    /// With a remark on what the document itself may not say. Ends with a newline.
    var yaml: String {
        let place = resource.namespace.map { " in namespace \"\($0)\"" } ?? ""
        return "# \(resource.short)\(place), generation \(generation), revision \(revision)\n"
            + (document.hasSuffix("\n") ? document : document + "\n")
    }
}

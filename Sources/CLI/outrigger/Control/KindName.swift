import ArgumentParser
import ControlAPI
import MeshModel

/// A kind as people type it: `VirtualNode`, `virtualnodes`, `vn`.
struct KindName: Equatable {
    /// `VirtualNode`.
    let name: String
    let isNamespaced: Bool
    /// Beside the name itself and its plural; the shortest one first.
    private let aliases: [String]

    /// Nil for a Namespace, of which the labels alone mean something.
    var kind: ResourceKind? { ResourceKind(rawValue: name) }

    static let all: [KindName] =
        ResourceKind.allCases.map { kind in
            let aliases: [String] =
                switch kind {
                case .mesh: ["meshes"]
                case .virtualNode: ["vn", "node", "nodes"]
                case .virtualService: ["vs", "service", "services"]
                case .virtualRouter: ["vr", "router", "routers"]
                case .virtualGateway: ["vg", "gateway", "gateways"]
                case .gatewayRoute: ["gr"]
                case .backendGroup: ["bg"]
                case .sidecar: ["sc"]
                case .endpointSet: ["es"]
                case .meshPolicy: ["mp", "meshpolicies"]
                case .trafficPolicy: ["tp", "trafficpolicies"]
                }
            return KindName(name: kind.rawValue, isNamespaced: kind.isNamespaced, aliases: aliases)
        } + [KindName(name: "Namespace", isNamespaced: false, aliases: ["ns"])]

    private init(name: String, isNamespaced: Bool, aliases: [String]) {
        self.name = name
        self.isNamespaced = isNamespaced
        self.aliases = aliases
    }

    init?(_ text: String) {
        // `virtualnodes.appmesh.k8s.aws` is how scripts for kubectl say it.
        let word = String(text.lowercased().prefix { $0 != "." })
        let found = Self.all.first { kind in
            let name = kind.name.lowercased()
            return word == name || word == "\(name)s" || kind.aliases.contains(word)
        }
        guard let found else { return nil }
        self = found
    }

    static func unknown(_ text: String) -> ValidationError {
        let kinds = all.map { kind in kind.aliases[0].count == 2 ? "\(kind.name) (\(kind.aliases[0]))" : kind.name }
        return ValidationError("There is no kind \"\(text)\". There are \(kinds.joined(separator: ", ")), and all.")
    }
}

/// What a command is about: `KIND`, `KIND NAME...` or `KIND/NAME...`.
struct ResourceSelection: Equatable {
    /// Nil: of all kinds, or of several.
    var kind: KindName?
    /// Empty: all of them.
    var names: [ResourceName]

    /// - Parameter namespace: Of the names; one whose kind has none stands in none.
    init(_ words: [String], namespace: String) throws {
        func name(_ kind: KindName, _ name: String) throws -> ResourceName {
            guard !name.isEmpty, !name.contains("/") else { throw ValidationError("A resource's name is missing after \(kind.name).") }
            return ResourceName(kind: kind.name, namespace: kind.isNamespaced ? namespace : nil, name: name)
        }
        guard let first = words.first else { throw ValidationError("Say of which kind, or all.") }
        if first.contains("/") {
            names = try words.map { word in
                guard let slash = word.firstIndex(of: "/") else {
                    throw ValidationError("Either KIND NAME... or KIND/NAME..., not both: \"\(word)\".")
                }
                guard let kind = KindName(String(word[..<slash])) else { throw KindName.unknown(String(word[..<slash])) }
                return try name(kind, String(word[word.index(after: slash)...]))
            }
            kind = Set(names.map(\.kind)).count == 1 ? KindName(names[0].kind) : nil
        } else if first.lowercased() == "all" {
            guard words.count == 1 else { throw ValidationError("'all' takes no names.") }
            (kind, names) = (nil, [])
        } else {
            guard let kind = KindName(first) else { throw KindName.unknown(first) }
            self.kind = kind
            names = try words.dropFirst().map { try name(kind, $0) }
        }
    }
}

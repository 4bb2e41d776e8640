import ArgumentParser
import ControlAPI
import MeshModel

/// A kind as people type it: `VirtualNode`, `virtualnodes`, `vn`.
enum KindName {
    private static let short: [ResourceKind: [String]] = [
        .mesh: ["mesh", "meshes"], .virtualNode: ["vn", "node", "nodes"], .virtualService: ["vs", "service", "services"],
        .virtualRouter: ["vr", "router", "routers"], .virtualGateway: ["vg", "gateway", "gateways"], .gatewayRoute: ["gr"],
        .backendGroup: ["bg"], .sidecar: ["sc"], .endpointSet: ["es"],
    ]

    static func kind(_ text: String) -> ResourceKind? {
        // `virtualnodes.appmesh.k8s.aws` is how scripts for kubectl say it.
        let word = text.lowercased().prefix { $0 != "." }
        return ResourceKind.allCases.first { kind in
            let name = kind.rawValue.lowercased()
            return word == name || word == "\(name)s" || short[kind]!.contains(String(word))
        }
    }

    static var all: String {
        ResourceKind.allCases.map { kind in
            let shortest = short[kind]!.min { $0.count < $1.count }!
            return shortest == kind.rawValue.lowercased() ? kind.rawValue : "\(kind.rawValue) (\(shortest))"
        }.joined(separator: ", ")
    }

    static func unknown(_ text: String) -> ValidationError {
        ValidationError("There is no kind \"\(text)\". There are \(all), and all.")
    }
}

/// What a command is about: `KIND`, `KIND NAME...` or `KIND/NAME...`.
struct ResourceSelection: Equatable {
    /// Nil: of all kinds.
    var kind: ResourceKind?
    /// Empty: all of them.
    var names: [ResourceName]

    /// - Parameter namespace: Of the names; one of their own stands in none.
    init(_ words: [String], namespace: String) throws {
        func name(_ kind: ResourceKind, _ name: String) throws -> ResourceName {
            guard !name.isEmpty, !name.contains("/") else { throw ValidationError("A resource's name is missing after \(kind.rawValue).") }
            return ResourceName(kind: kind.rawValue, namespace: kind.isNamespaced ? namespace : nil, name: name)
        }
        guard let first = words.first else { throw ValidationError("Say of which kind: \(KindName.all), or all.") }
        if first.contains("/") {
            names = try words.map { word in
                guard let slash = word.firstIndex(of: "/") else {
                    throw ValidationError("Either KIND NAME... or KIND/NAME..., not both: \"\(word)\".")
                }
                guard let kind = KindName.kind(String(word[..<slash])) else { throw KindName.unknown(String(word[..<slash])) }
                return try name(kind, String(word[word.index(after: slash)...]))
            }
            kind = Set(names.map(\.kind)).count == 1 ? KindName.kind(names[0].kind) : nil
        } else if first.lowercased() == "all" {
            guard words.count == 1 else { throw ValidationError("'all' takes no names.") }
            (kind, names) = (nil, [])
        } else {
            guard let kind = KindName.kind(first) else { throw KindName.unknown(first) }
            self.kind = kind
            names = try words.dropFirst().map { try name(kind, $0) }
        }
    }
}

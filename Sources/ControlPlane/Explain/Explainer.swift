/// Which way a request would take through a proxy, and why: with the proxy's own route table, without a proxy.
import Base
import ConfigText
public import ControlAPI
import HTTP
public import MeshCompiler
public import MeshModel
public import ProxyConfig
import Routing

/// Why there is nothing to explain: the question is wrong, in words for who asked it.
public struct ExplainError: Error, Hashable, Sendable, CustomStringConvertible {
    public var description: String

    public init(_ description: String) {
        self.description = description
    }
}

public enum Explainer {
    /// The VirtualNode or VirtualGateway that `NAME`, `NAME.NAMESPACE`, `NAMESPACE/NAME` or its name in the mesh stands for. A node goes
    /// before a gateway of the same name.
    public static func subject(named wanted: String, in resources: MeshResources) throws(ExplainError) -> MeshCompiler.Subject {
        let nodes = keys(wanted, resources.virtualNodes)
        let gateways = keys(wanted, resources.virtualGateways)
        let found = nodes.isEmpty ? gateways : nodes
        guard let key = found.first else {
            let all = (resources.virtualNodes.map(\.key) + resources.virtualGateways.map(\.key)).prefix(20).map { "  \($0.qualified)" }
            let known = all.isEmpty ? "the mesh has none" : "there are\n\(all.joined(separator: "\n"))"
            throw ExplainError("no VirtualNode or VirtualGateway is called \"\(wanted)\"; \(known)")
        }
        guard found.count == 1 else {
            let names = found.map { "  \($0.namespace ?? "")/\($0.name)" }.joined(separator: "\n")
            throw ExplainError("\"\(wanted)\" is not clear; there are\n\(names)")
        }
        return nodes.isEmpty ? .virtualGateway(key) : .virtualNode(key)
    }

    private static func keys(_ wanted: String, _ table: ResourceTable<some MeshNamed>) -> [ResourceKey] {
        table.filter { resource in
            let (name, namespace) = (resource.meta.name, resource.meta.namespace)
            return [name, "\(name).\(namespace)", "\(namespace)/\(name)", resource.meshName].contains(wanted)
        }.map(\.key)
    }

    /// What the proxy of `node` would do with a request: of its own application (a VirtualNode), or of a caller outside (a VirtualGateway).
    ///
    /// - Parameters:
    ///   - request: `from` is not looked at: whoever compiled the node knows whose it is.
    ///   - assignments: of clusters whose endpoints are registered proxies, in place of those that the snapshot has.
    /// - Throws: where the URL or a header is none.
    public static func explain(
        _ request: ExplainRequest, in node: CompiledNode, assignments: [ClusterLoadAssignment] = []
    ) throws(ExplainError) -> Explanation {
        var way = Way(request: try ExplainedRequest(request), node: node, assignments: assignments)
        way.walk()
        return Explanation(steps: way.steps, localReply: way.localReply)
    }
}

/// One walk through a node: the steps so far.
struct Way {
    let request: ExplainedRequest
    let node: CompiledNode
    let snapshot: Snapshot
    /// By name: those of the snapshot, or what the caller knows better.
    let assignments: [String: ClusterLoadAssignment]
    var steps: [Explanation.Step] = []
    var localReply: String?

    init(request: ExplainedRequest, node: CompiledNode, assignments: [ClusterLoadAssignment]) {
        self.request = request
        self.node = node
        snapshot = node.snapshot
        self.assignments = Dictionary((snapshot.loadAssignments + assignments).map { ($0.clusterName, $0) }) { $1 }
    }

    mutating func walk() {
        if request.isTCP {
            walkTCP()
        } else if snapshot.node.role == .virtualGateway {
            walkGateway()
        } else {
            walkOutbound()
        }
    }

    mutating func add(_ what: String, _ name: String, _ lines: [String], defaultsOf path: String? = nil) {
        let defaults = path.map(silentDefaults) ?? []
        steps.append(Explanation.Step(what: what, name: name, text: lines.joined(separator: "\n"), silentDefaults: defaults))
    }

    /// Of everything below a place of the rendered snapshot: `connect_timeout: 1s (App Mesh default)`.
    func silentDefaults(_ path: String) -> [String] {
        node.notes.compactMap { note in
            guard note.kind == .silentDefault, note.path.hasPrefix("\(path).") else { return nil }
            return "\(note.path.dropFirst(path.utf8.count + 1)): \(note.value ?? "") (\(note.text))"
        }
    }

    // MARK: Listeners

    private mutating func walkOutbound() {
        let found = snapshot.listeners.lazy.compactMap { listener in
            listener.direction == .outbound ? listener.filterChains.lazy.compactMap(\.manager).first.map { (listener, $0) } : nil
        }.first
        guard let (listener, manager) = found else {
            localReply = "no outbound HTTP listener: \(snapshot.node.name) has no HTTP backends, so nothing of the proxy takes this call"
            return
        }
        var lines = ["the application calls \(listener.address) with Host: \(request.authority)"]
        if request.isHTTPS {
            lines.append("https:// from the application itself would be TLS, which this listener does not speak: explained as http://")
        }
        add("listener", listener.name, lines, defaultsOf: "listeners[\(listener.name)]")
        walkHTTP(manager, isHTTPS: false)
    }

    private mutating func walkGateway() {
        let inbound = snapshot.listeners.filter { $0.direction == .inbound && $0.filterChains.contains { $0.manager != nil } }
        let exact = inbound.first { $0.address.port == request.port }
        guard let listener = exact ?? (inbound.count == 1 ? inbound[0] : nil) else {
            let known = inbound.map { "\($0.address)" }.joined(separator: ", ")
            localReply = "no listener on port \(request.port): \(snapshot.node.name) has \(known.isEmpty ? "none" : known)"
            return
        }
        var lines = ["callers reach \(listener.address)"]
        if exact == nil { lines.append("port \(request.port) is not its own, but it is the only listener") }
        let chain = listener.filterChains.first { chain in
            (chain.tls != nil) == request.isHTTPS && (chain.match.transportProtocol.map { ($0 == .tls) == request.isHTTPS } ?? true)
        }
        guard let chain, let manager = chain.manager else {
            add("listener", listener.name, lines, defaultsOf: "listeners[\(listener.name)]")
            let (takes, scheme) = request.isHTTPS ? ("no", "http") : ("only", "https")
            localReply = "closed: the listener takes \(takes) TLS, call it by \(scheme)://"
            return
        }
        if let tls = chain.tls {
            lines.append("TLS ends here\(tls.validation == nil || !tls.requiresCertificate ? "" : "; callers must show a certificate")")
        }
        add("listener", listener.name, lines, defaultsOf: "listeners[\(listener.name)]")
        walkHTTP(manager, isHTTPS: request.isHTTPS)
    }

    /// A tcp listener is for one service, which stands in the name of its chain.
    private mutating func walkTCP() {
        var candidates: [(listener: Listener, chain: FilterChain, proxy: TCPProxy)] = []
        for listener in snapshot.listeners where listener.direction == .outbound {
            for chain in listener.filterChains {
                if case .tcp(let proxy) = chain.filter { candidates.append((listener, chain, proxy)) }
            }
        }
        let named = candidates.filter { $0.chain.name.lowercased() == request.host.lowercased() }
        guard let found = named.first(where: { $0.listener.address.port == request.port }) ?? named.first else {
            let known = candidates.map { "\($0.chain.name) at \($0.listener.address)" }.joined(separator: ", ")
            localReply = "no tcp listener for \(request.host): \(known.isEmpty ? "the node has no tcp backends" : "there are \(known)")"
            return
        }
        add(
            "listener", found.listener.name,
            ["the application calls \(found.listener.address), which is \(found.chain.name) and nothing else"],
            defaultsOf: "listeners[\(found.listener.name)]")
        add("policy", "connection", ["idle timeout \(Self.limit(found.proxy.idleTimeout))"])
        walk(found.proxy.target)
    }

    static func limit(_ value: Duration?) -> String { value.map(duration) ?? "none" }
}

extension FilterChain {
    var manager: HTTPConnectionManager? { if case .http(let manager) = filter { manager } else { nil } }
}

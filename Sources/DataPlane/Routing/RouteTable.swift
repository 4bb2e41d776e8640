public import Base
public import HTTP
public import ProxyConfig

/// What happens to a request.
public enum RouteDecision: Sendable {
    /// It goes to this cluster, as its place in `RouteTable.clusterNames`.
    case forward(CompiledRoute, cluster: Int)
    /// It is answered here.
    case reply(CompiledRoute, CompiledReply)
    /// The virtual host, by its place in the route configuration, has no route for it: 404 NR.
    case noRoute(virtualHost: Int)
    /// No domain fits its authority: 404 NR.
    case noVirtualHost
}

/// Every error of a route configuration. Paths are those of envoy.config.route.v3.RouteConfiguration.
public struct RouteTableErrors: Error, Hashable, Sendable, CustomStringConvertible {
    public var errors: [FieldError]

    public var description: String { errors.map(\.description).joined(separator: "\n") }
}

/// Routing: from a request's head to a decision.
///
/// Built once for a route configuration and never changed, so all workers share it. All that a match reads stands in a few flat
/// arrays: a match allocates nothing, takes no lock and makes no String.
public final class RouteTable: Sendable {
    public let name: String
    /// In the order of the configuration, over all virtual hosts.
    public let routes: [CompiledRoute]
    public let virtualHostNames: [String]
    /// Each once; `RouteDecision.forward` and `CompiledRoute.clusterOrdinal` count by it.
    public let clusterNames: [String]

    private let domains: DomainIndex
    /// For each virtual host, which routes and conditions are its own; they stand at the same places.
    private let hosts: [Range<Int>]
    private let conditions: RouteConditions

    /// - Throws: every error of the configuration.
    public init(_ configuration: RouteConfiguration) throws(RouteTableErrors) {
        var builder = RouteTableBuilder()
        builder.add(configuration)
        if !builder.errors.isEmpty { throw RouteTableErrors(errors: builder.errors) }
        name = configuration.name
        routes = builder.routes
        virtualHostNames = configuration.virtualHosts.map(\.name)
        clusterNames = builder.clusterNames
        domains = builder.domains
        hosts = builder.hosts
        conditions = builder.conditions
    }

    /// Decides about a request whose target is in its normal form (`PathNormalizer`).
    ///
    /// `random` chooses among weighted clusters; all its 64 bits count, the highest most.
    public func match(_ head: Head, random: UInt64) -> RouteDecision {
        let storage = head.bytes
        let bytes = storage.span
        let fieldStorage = head.fields
        let fields = fieldStorage.span
        let host = domains.lookUp(bytes, head.authority)
        guard host >= 0 else { return .noVirtualHost }
        let path = head.target.lowerBound..<bytes.firstIndex(of: UInt8(ascii: "?"), in: head.target)
        for index in hosts[host] where conditions.hold(index, head, fields, bytes, path) {
            let route = routes[index]
            if let reply = route.reply { return .reply(route, reply) }
            return .forward(route, cluster: route.clusterOrdinal(random: random))
        }
        return .noRoute(virtualHost: host)
    }
}

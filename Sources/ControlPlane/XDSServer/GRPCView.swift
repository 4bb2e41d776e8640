import Base
import ProxyConfig
import XDSWire

/// A snapshot as gRPC clients take it: what a node's egress serves, without the proxy.
///
/// A channel to `xds:///cart.shop:8080` asks for a listener of that name: there is one for each domain without a wildcard of the routes of
/// outbound listeners. What gRPC refuses is left out or said otherwise: see `docs/xds-clients.md`.
struct GRPCView {
    let listeners: [APIListener]
    let clusters: [EncodedResource]
    /// Without listeners of its own.
    let snapshot: Snapshot

    init(_ whole: Snapshot) {
        var view = Snapshot(node: whole.node)
        var listeners: [String: APIListener] = [:]
        for routes in Self.egress(of: whole) {
            for host in routes.virtualHosts where !host.routes.isEmpty {
                let name = "\(routes.name)/\(host.name)"
                let targets = host.domains.filter { !$0.contains("*") && listeners[$0] == nil }
                if targets.isEmpty { continue }
                for target in targets { listeners[target] = APIListener(name: target, routeConfigurationName: name) }
                // The target has chosen the host: whatever authority the channel has, these are its routes.
                let only = VirtualHost(name: host.name, domains: ["*"], routes: host.routes.compactMap(Self.route))
                view.routeConfigurations.append(RouteConfiguration(name: name, virtualHosts: [only]))
            }
        }
        let reached = Set(view.routeConfigurations.flatMap(\.references).map(\.name))
        var encoded: [EncodedResource] = []
        for cluster in whole.clusters where reached.contains(cluster.name) {
            guard let (form, assignment, resource) = Self.cluster(cluster, whole) else { continue }
            view.clusters.append(form)
            if let assignment { view.loadAssignments.append(assignment) }
            encoded.append(resource)
        }
        self.listeners = listeners.values.sorted { $0.name < $1.name }
        clusters = encoded
        snapshot = view
    }

    private static func egress(of snapshot: Snapshot) -> [RouteConfiguration] {
        let names = snapshot.listeners.filter { $0.direction == .outbound }.flatMap(\.filterChains).compactMap { chain in
            if case .http(let manager) = chain.filter { manager.routeConfigurationName } else { nil }
        }
        return snapshot.routeConfigurations.filter { names.contains($0.name) }
    }

    /// gRPC refuses a retry policy of no retries. Of what a route may do beside forwarding it knows nothing that would be of use here.
    private static func route(_ route: Route) -> Route? {
        guard case .forward(var action) = route.action else { return route }
        if action.retryPolicy?.maxRetries == 0 { action.retryPolicy = nil }
        (action.hashKeys, action.mirrors, action.hedging) = ([], [], nil)
        return Route(name: route.name, match: route.match, action: .forward(action))
    }

    /// Round robin is what every gRPC client has. TLS is left to the channel's own credentials: gRPC refuses a context whose certificates
    /// do not come from its bootstrap. Nil where no form would do: the original destination, plain TCP, names without an address.
    private static func cluster(_ cluster: Cluster, _ whole: Snapshot) -> (Cluster, ClusterLoadAssignment?, EncodedResource)? {
        var form = cluster
        form.loadBalancing = .roundRobin
        form.balancing = BalancingOptions()
        form.resilience = nil
        form.tls = nil
        form.healthChecks = []
        if form.upstreamProtocol == .auto { form.upstreamProtocol = .http2 }
        guard form.upstreamProtocol != .tcp else { return nil }
        switch cluster.discovery {
        case .eds(let name):
            let assignment = whole.loadAssignments.first { $0.clusterName == name }
            return (form, assignment.map(Self.assignment), EncodedResource(form))
        case .fixed(let fixed):
            // STATIC is refused; the same endpoints by EDS are not.
            let name = "\(cluster.name)/fixed"
            form.discovery = .eds(serviceName: name)
            let assignment = Self.assignment(ClusterLoadAssignment(clusterName: name, localities: fixed.localities))
            return (form, assignment, EncodedResource(form))
        case .dns(let names, let options):
            // STRICT_DNS is refused, and LOGICAL_DNS takes one name.
            guard let locality = names.localities.first(where: { !$0.endpoints.isEmpty }) else { return nil }
            let one = LocalityEndpoints(locality: locality.locality, weight: locality.weight, endpoints: [locality.endpoints[0]])
            form.discovery = .dns(ClusterLoadAssignment(clusterName: names.clusterName, localities: [one]), options)
            let message = AnyMessage(typeURL: ResourceType.cluster.typeURL, value: form.encodedWithLogicalDNS())
            return (form, nil, EncodedResource(name: form.name, message: message))
        case .originalDestination: return nil
        }
    }

    /// IP addresses only; each endpoint and each locality of a priority once; priorities from 0 without a gap.
    static func assignment(_ assignment: ClusterLoadAssignment) -> ClusterLoadAssignment {
        var seen: Set<SocketAddress> = []
        var localities: [LocalityEndpoints] = []
        for locality in assignment.localities {
            let endpoints = locality.endpoints.filter { endpoint in
                guard case .ip(let ip) = endpoint.host else { return false }
                return seen.insert(SocketAddress(ip, endpoint.port)).inserted
            }
            if endpoints.isEmpty { continue }
            if let same = localities.firstIndex(where: { $0.priority == locality.priority && $0.locality == locality.locality }) {
                localities[same].endpoints += endpoints
            } else {
                var copy = locality
                copy.endpoints = endpoints
                localities.append(copy)
            }
        }
        let priorities = Set(localities.map(\.priority)).sorted()
        for index in localities.indices {
            localities[index].priority = UInt32(priorities.firstIndex(of: localities[index].priority) ?? 0)
        }
        return ClusterLoadAssignment(clusterName: assignment.clusterName, localities: localities)
    }
}

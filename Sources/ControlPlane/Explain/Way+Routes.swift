import Base
import ConfigText
import ControlAPI
import HTTP
import MeshCompiler
import ProxyConfig
import Routing

/// Virtual host and route: the proxy's own `RouteTable` decides, and also tells which condition it was that did not hold.
extension Way {
    /// How many routes are named that were tried in vain; more are counted.
    private static let maxPassed = 12

    mutating func walkHTTP(_ manager: HTTPConnectionManager, isHTTPS: Bool) {
        guard let configuration = snapshot.routeConfigurations.first(where: { $0.name == manager.routeConfigurationName }) else {
            localReply = "404: the listener has no routes"
            return
        }
        let head = request.head(isEdge: manager.isEdge, isHTTPS: isHTTPS)
        do {
            try PathNormalizer.normalize(head)
        } catch {
            localReply = "400: malformed path: \(error)"
            return
        }
        guard let table = try? RouteTable(configuration) else {
            localReply = "the proxy would refuse these routes: see outrigger validate"
            return
        }
        switch table.match(head, random: 0) {
        case .noVirtualHost:
            add("virtual host", "none", noHost(configuration))
            localReply = "404: nothing is known here for the host \(request.authority)\(tcpHint)"
        case .noRoute(let index):
            let host = configuration.virtualHosts[index]
            addHost(host, configuration, head)
            add("route", "none", host.routes.isEmpty ? ["the virtual host has no routes"] : passed(host.routes, head))
            localReply = "404: no route of \(host.name) takes this request\(tcpHint)"
        case .reply(let route, let reply):
            let host = configuration.virtualHosts[route.virtualHostIndex]
            addHost(host, configuration, head)
            addRoute(route, of: host, table, configuration, head, manager)
            let body = String(decoding: reply.body, as: UTF8.self).split(separator: "\n").joined(separator: " ")
            localReply = "\(reply.status): the route answers by itself\(body.isEmpty ? "" : ": \(body)")"
        case .forward(let route, _):
            let host = configuration.virtualHosts[route.virtualHostIndex]
            addHost(host, configuration, head)
            addRoute(route, of: host, table, configuration, head, manager)
            guard case .forward(let action) = route.configuration.action else { return }
            guard addPolicy(route, action, host, configuration, head) else { return }
            walk(action.target)
        }
    }

    /// Somebody calls a tcp service by HTTP: its port is elsewhere.
    private var tcpHint: String {
        for listener in snapshot.listeners where listener.direction == .outbound {
            for chain in listener.filterChains where chain.manager == nil && chain.name.lowercased() == request.host.lowercased() {
                return "; \(chain.name) is a tcp service, at \(listener.address): ask for tcp://\(request.host)"
            }
        }
        return ""
    }

    // MARK: Virtual host

    private func noHost(_ configuration: RouteConfiguration) -> [String] {
        let domains = configuration.virtualHosts.flatMap(\.domains)
        guard !domains.isEmpty else { return ["there are no virtual hosts: the node has no HTTP backends"] }
        let shown = domains.prefix(20).joined(separator: ", ")
        let more = domains.count > 20 ? " and \(domains.count - 20) more" : ""
        let filter = node.notes.filter { $0.kind == .silentDefault && $0.path == "mesh.egress_filter" }
        return ["no domain fits \(request.authority); there are \(shown)\(more)"] + filter.map { "\($0)" }
    }

    private mutating func addHost(_ host: VirtualHost, _ configuration: RouteConfiguration, _ head: Head) {
        // Each domain alone, so that the table says which of them it is.
        let fitting = host.domains.filter { domain in
            let probe = VirtualHost(name: "probe", domains: [domain], routes: [])
            guard let table = try? RouteTable(RouteConfiguration(name: "probe", virtualHosts: [probe])) else { return false }
            if case .noRoute = table.match(head, random: 0) { return true }
            return false
        }
        let wanted = request.authority.lowercased()
        let reason: String
        if fitting.contains(where: { $0.lowercased() == wanted }) {
            reason = "its domain is exactly \(request.authority)"
        } else if let domain = fitting.first(where: { !$0.contains("*") }) {
            reason = "its domain \(domain) is the host that \(request.authority) names, and no domain names the port"
        } else if let domain = fitting.first(where: { $0 != "*" && $0.hasSuffix(":*") }) {
            reason = "its domain \(domain) takes every port of the host that no other domain names"
        } else if let domain = fitting.filter({ $0 != "*" }).max(by: { $0.utf8.count < $1.utf8.count }) {
            reason = "its domain \(domain) is the longest wildcard that fits \(request.authority)"
        } else {
            reason = "its domain * takes every host that no other domain names"
        }
        add("virtual host", host.name, [reason])
    }

    // MARK: Route

    private mutating func addRoute(
        _ route: CompiledRoute, of host: VirtualHost, _ table: RouteTable, _ configuration: RouteConfiguration, _ head: Head,
        _ manager: HTTPConnectionManager
    ) {
        let first = configuration.virtualHosts[..<route.virtualHostIndex].reduce(0) { $0 + $1.routes.count }
        let position = route.index - first
        var lines = ["\(ordinal(position)) of \(counted(host.routes.count)), matches: \(conditions(route.configuration.match))"]
        lines += passed(Array(host.routes[..<position]), head)
        let claims = manager.isEdge ? request.claims() : []
        if !claims.isEmpty {
            lines.append("\(claims.joined(separator: ", ")): taken away first, a gateway does not believe them of its callers")
        }
        add("route", route.name, lines)
    }

    private func ordinal(_ position: Int) -> String { "number \(position + 1)" }
    private func counted(_ count: Int) -> String { count == 1 ? "1 route" : "\(count) routes" }

    /// Each route that does not take the request, and the conditions of it that do not hold.
    private func passed(_ routes: [Route], _ head: Head) -> [String] {
        var lines = routes.prefix(Self.maxPassed).map { route in
            "not \(route.name): \(broken(route.match, head).joined(separator: "; "))"
        }
        if routes.count > Self.maxPassed { lines.append("nor \(routes.count - Self.maxPassed) more before it") }
        return lines
    }

    /// Asks the table about one condition at a time.
    private func broken(_ match: RouteMatch, _ head: Head) -> [String] {
        func holds(_ condition: RouteMatch) -> Bool {
            let route = Route(name: "probe", match: condition, action: .reply(DirectReply(status: 200)))
            let hosts = [VirtualHost(name: "probe", domains: ["*"], routes: [route])]
            guard let table = try? RouteTable(RouteConfiguration(name: "probe", virtualHosts: hosts)) else { return false }
            if case .reply = table.match(head, random: 0) { return true }
            return false
        }
        let any = RouteMatch.Path.prefix("")
        var reasons: [String] = []
        if !holds(RouteMatch(path: match.path)) { reasons.append("path \(head.string(head.path)) is not \(match.path.words)") }
        if match.requiresGRPC, !holds(RouteMatch(path: any, requiresGRPC: true)) { reasons.append("no gRPC (content-type)") }
        for header in match.headers where !holds(RouteMatch(path: any, headers: [header])) {
            let found = found(header.name, head)
            reasons.append("\(header.words) does not hold\(found.map { " (found \($0))" } ?? ", there is none")")
        }
        for parameter in match.queryParameters where !holds(RouteMatch(path: any, queryParameters: [parameter])) {
            reasons.append("\(parameter.words) does not hold")
        }
        return reasons
    }

    private func found(_ name: String, _ head: Head) -> String? {
        switch name {
        case ":method": return head.string(head.methodRange)
        case ":scheme": return "\(head.scheme)"
        case ":authority", "host": return request.authority
        case ":path": return head.string(head.target)
        default:
            let values = head.fields.filter { head.string($0.name) == name }.map { head.string($0.value) }
            return values.isEmpty ? nil : values.joined(separator: ",")
        }
    }

    private func conditions(_ match: RouteMatch) -> String {
        var parts = ["path is \(match.path.words)"]
        if match.requiresGRPC { parts.append("gRPC") }
        parts += match.headers.map(\.words) + match.queryParameters.map(\.words)
        return parts.joined(separator: ", ")
    }

    // MARK: The route's policies

    /// - Returns: whether the request goes on.
    private mutating func addPolicy(
        _ route: CompiledRoute, _ action: ForwardAction, _ host: VirtualHost, _ configuration: RouteConfiguration, _ head: Head
    ) -> Bool {
        var lines = ["timeout \(Self.limit(action.timeout)) for the whole request, idle timeout \(Self.limit(action.idleTimeout))"]
        lines += retryWords(action) + trafficWords(route.configuration)
        let path = head.string(head.target)
        let authority = head.string(head.authority)
        do {
            try route.rewrite(head)
        } catch {
            localReply = "400: the route's rewrite does not fit this path"
        }
        if head.string(head.target) != path { lines.append("path becomes \(head.string(head.target))") }
        if head.string(head.authority) != authority { lines.append("host becomes \(head.string(head.authority))") }
        if route.rewritesHostToEndpoint { lines.append("host becomes the name of the endpoint") }
        add(
            "policy", "request", lines,
            defaultsOf: "route_configurations[\(configuration.name)].virtual_hosts[\(host.name)].routes[\(route.name)].route")
        return localReply == nil
    }
}

// MARK: Conditions as people say them

extension RouteMatch.Path {
    var words: String {
        switch self {
        case .prefix(let prefix): "\(prefix)*"
        case .exact(let path): "exactly \(path)"
        case .regex(let pattern): "like \(pattern)"
        }
    }
}

extension HeaderMatcher {
    var words: String {
        let condition =
            switch condition {
            case .present: isInverted ? "is absent" : "is there"
            case .exact(let text): isInverted ? "is not \(text)" : "is \(text)"
            case .prefix(let text): isInverted ? "does not begin with \(text)" : "begins with \(text)"
            case .suffix(let text): isInverted ? "does not end with \(text)" : "ends with \(text)"
            case .regex(let pattern): isInverted ? "is not like \(pattern)" : "is like \(pattern)"
            case .range(let start, let end): "is \(isInverted ? "not " : "")from \(start) to below \(end)"
            }
        return name == ":method" ? "method \(condition)" : name == ":scheme" ? "scheme \(condition)" : "header \(name) \(condition)"
    }
}

extension QueryParameterMatcher {
    var words: String { exact.map { "query parameter \(name) is \($0)" } ?? "query parameter \(name) is there" }
}

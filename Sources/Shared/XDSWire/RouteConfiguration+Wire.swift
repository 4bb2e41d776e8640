import Base
import ProxyConfig

extension RouteConfiguration: WireMessage {
    /// envoy.config.route.v3.RouteConfiguration.
    enum Fields: Int, WireField {
        case name = 1
        case virtual_hosts = 2
        case response_headers_to_add = 4
        case response_headers_to_remove = 5
        case request_headers_to_add = 6
        case request_headers_to_remove = 8
        case vhds = 9
        case max_direct_response_body_size_bytes = 11
        case cluster_specifier_plugins = 12
        case request_mirror_policies = 13
        case ignore_port_in_host_matching = 14
        case ignore_path_parameters_in_path_matching = 15
        case typed_per_filter_config = 16
        case vhost_header = 18
    }

    /// A domain without a port matches any port here. Envoy does that by `ignore_port_in_host_matching`, which however makes domains
    /// with a port match nothing: so it is set where there are none.
    func write(to message: inout MessageWriter<Fields>) {
        message.string(.name, name)
        message.messages(.virtual_hosts, virtualHosts)
        let longestBody = virtualHosts.flatMap(\.routes).map { if case .reply(let reply) = $0.action { reply.body.utf8.count } else { 0 } }
            .max()
        if let longestBody, longestBody > Self.envoysBodyLimit { message.wrapped(.max_direct_response_body_size_bytes, longestBody) }
        message.bool(.ignore_port_in_host_matching, !virtualHosts.flatMap(\.domains).contains(where: Self.hasPort))
    }

    /// Bodies of direct responses above this need a limit of their own.
    private static let envoysBodyLimit = 4096

    private static func hasPort(_ domain: String) -> Bool {
        guard let colon = domain.utf8.lastIndex(of: UInt8(ascii: ":")) else { return false }
        let digits = domain.utf8[colon...].dropFirst()
        return !digits.isEmpty && digits.allSatisfy { (0x30...0x39).contains($0) }
    }

    static func read(_ message: MessageReader<Fields>) -> RouteConfiguration? {
        message.refuse(
            .response_headers_to_add, .response_headers_to_remove, .request_headers_to_add, .request_headers_to_remove, .vhds,
            .cluster_specifier_plugins, .request_mirror_policies, .typed_per_filter_config, .vhost_header)
        if message.bool(.ignore_path_parameters_in_path_matching) { message.refuse(.ignore_path_parameters_in_path_matching) }
        let hosts = message.messages(.virtual_hosts, VirtualHost.Fields.self)
        message.checkUnique(hosts)
        return RouteConfiguration(name: message.string(.name), virtualHosts: hosts.compactMap(VirtualHost.read))
    }
}

extension MessageReader<RouteConfiguration.Fields> {
    /// Virtual hosts of one name, or of one domain, would leave open which of them serves.
    fileprivate func checkUnique(_ hosts: [MessageReader<VirtualHost.Fields>]) {
        var names: Set<String> = []
        var domains: Set<String> = []
        for host in hosts {
            let name = host.string(.name)
            if !name.isEmpty, !names.insert(name).inserted { host.fail(.name, expected: "a name of its own", found: "\"\(name)\" again") }
            for domain in host.strings(.domains) where !domains.insert(domain.lowercased()).inserted {
                host.fail(.domains, expected: "each domain once", found: "\"\(domain)\" again")
            }
        }
    }
}

extension VirtualHost: WireMessage {
    /// envoy.config.route.v3.VirtualHost.
    enum Fields: Int, WireField {
        case name = 1
        case domains = 2
        case routes = 3
        case require_tls = 4
        case rate_limits = 6
        case request_headers_to_add = 7
        case cors = 8
        case response_headers_to_add = 10
        case response_headers_to_remove = 11
        case request_headers_to_remove = 13
        case include_request_attempt_count = 14
        case typed_per_filter_config = 15
        case retry_policy = 16
        case hedge_policy = 17
        case include_attempt_count_in_response = 19
        case retry_policy_typed_config = 20
        case matcher = 21
        case request_mirror_policies = 22
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.name, name)
        message.strings(.domains, domains)
        message.messages(.routes, routes)
    }

    static func read(_ message: MessageReader<Fields>) -> VirtualHost? {
        message.refuse(
            .require_tls, .rate_limits, .request_headers_to_add, .cors, .response_headers_to_add, .response_headers_to_remove,
            .request_headers_to_remove, .typed_per_filter_config, .hedge_policy, .retry_policy_typed_config, .matcher,
            .request_mirror_policies)
        for field in [Fields.include_request_attempt_count, .include_attempt_count_in_response] where message.bool(field) {
            message.refuse(field)
        }
        let domains = message.strings(.domains)
        if domains.isEmpty { message.fail(.domains, expected: "at least one domain", found: "none") }
        for (index, domain) in domains.enumerated() where !isValid(domain: domain) {
            message.context.add(
                message.path(.domains)[index], expected: "a host with at most one * at its start or end", found: "\"\(domain)\"")
        }
        var routes = message.messages(.routes, Route.self)
        if let policy = message.message(.retry_policy, RetryPolicy.self) {
            for index in routes.indices { routes[index].inherit(policy) }
        }
        return VirtualHost(name: message.requiredString(.name), domains: domains, routes: routes)
    }

    private static func isValid(domain: String) -> Bool {
        let stars = domain.utf8.count { $0 == UInt8(ascii: "*") }
        return !domain.isEmpty && (stars == 0 || stars == 1 && (domain.hasPrefix("*") || domain.hasSuffix("*")))
    }
}

extension Route: WireMessage {
    /// envoy.config.route.v3.Route.
    enum Fields: Int, WireField {
        case match = 1
        case route = 2
        case redirect = 3
        case metadata = 4
        case direct_response = 7
        case request_headers_to_add = 9
        case response_headers_to_add = 10
        case response_headers_to_remove = 11
        case request_headers_to_remove = 12
        case typed_per_filter_config = 13
        case name = 14
        case filter_action = 17
        case non_forwarding_action = 18
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.message(.match, match)
        switch action {
        case .forward(let action): message.message(.route, action)
        case .reply(let reply): message.message(.direct_response, reply)
        }
        if case .forward(let action) = action, action.hasExtension {
            message.message(.metadata, MetadataField.self) { $0.outrigger(RouteExtensionKey.self) { action.writeExtension(to: &$0) } }
        }
        message.headerChanges(requestHeaders, add: .request_headers_to_add, remove: .request_headers_to_remove)
        message.headerChanges(responseHeaders, add: .response_headers_to_add, remove: .response_headers_to_remove)
        message.filters(rateLimit, fault)
        message.string(.name, name)
    }

    static func read(_ message: MessageReader<Fields>) -> Route? {
        message.refuse(.redirect, .filter_action, .non_forwarding_action)
        let requestHeaders = message.headerChanges(add: .request_headers_to_add, remove: .request_headers_to_remove)
        let responseHeaders = message.headerChanges(add: .response_headers_to_add, remove: .response_headers_to_remove)
        let filters = message.filters()
        let own = message.message(.metadata, MetadataField.self)?.outrigger(RouteExtensionKey.self)
        let match = message.required(.match, RouteMatch.self)
        let action: RouteAction?
        switch message.chosen(.route, .redirect, .direct_response, .filter_action, .non_forwarding_action) {
        case .route:
            action = message.message(.route, ForwardAction.Fields.self).flatMap { reader in
                ForwardAction.read(reader).map { .forward($0.extended(own, hedges: reader.hedges())) }
            }
        case .direct_response: action = message.message(.direct_response, DirectReply.self).map(RouteAction.reply)
        case nil:
            message.fail(.route, expected: "route or direct_response", found: "neither")
            return nil
        default: return nil  // Refused above.
        }
        guard let match, let action else { return nil }
        return Route(
            name: message.string(.name), match: match, action: action, requestHeaders: requestHeaders, responseHeaders: responseHeaders,
            rateLimit: filters.rateLimit, fault: filters.fault)
    }

    /// Takes the virtual host's retry policy where the route has none of its own.
    fileprivate mutating func inherit(_ policy: RetryPolicy) {
        guard case .forward(var forward) = action, forward.retryPolicy == nil else { return }
        forward.retryPolicy = policy
        action = .forward(forward)
    }
}

extension DirectReply: WireMessage {
    /// envoy.config.route.v3.DirectResponseAction.
    enum Fields: Int, WireField {
        case status = 1
        case body = 2
        case body_format = 3
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.number(.status, status)
        if !body.isEmpty { message.message(.body, DataSourceField.self) { $0.chosenString(.inline_string, body) } }
    }

    static func read(_ message: MessageReader<Fields>) -> DirectReply? {
        message.refuse(.body_format)
        let body = message.message(.body, DataSourceField.self)?.inlineText() ?? ""
        return message.uint32(.status, in: 200...599).map { DirectReply(status: Int($0), body: body) }
    }
}

import Base
import ProxyConfig

// What a route does with its requests beside forwarding them: consistent hashing, copies, second attempts.

/// What a route's `filter_metadata["outrigger"]` may say. Other proxies do not see it.
enum RouteExtensionKey: String, ObjectKey {
    /// Goes with `hedge_policy`: Envoy knows no delay but the per-try timeout.
    case hedge
    /// Goes with `retry_policy`.
    case only_idempotent
}

enum HedgeKey: String, ObjectKey {
    case delay, max_attempts
}

extension ForwardAction {
    var hasExtension: Bool { hedging != nil || retryPolicy?.onlyIdempotent == true }

    func writeExtension(to message: inout ObjectWriter<RouteExtensionKey>) {
        if let hedging {
            message.object(.hedge, HedgeKey.self) {
                $0.duration(.delay, hedging.delay)
                $0.number(.max_attempts, hedging.maxAttempts)
            }
        }
        if retryPolicy?.onlyIdempotent == true { message.bool(.only_idempotent, true) }
    }

    /// With what the route's metadata says.
    ///
    /// - Parameter hedges: whether `hedge_policy` does. Alone it means what it means to Envoy: a try that reaches its time goes on, and
    ///   each retry stands beside it.
    func extended(_ own: ObjectReader<RouteExtensionKey>?, hedges: Bool) -> ForwardAction {
        var action = self
        if let hedge = own?.object(.hedge, HedgeKey.self) {
            let (delay, attempts) = (hedge.requiredDuration(.delay), hedge.required(.max_attempts, in: 1...UInt32.max))
            if let delay, let attempts { action.hedging = Hedging(delay: delay, maxAttempts: attempts) }
        } else if hedges, let policy = retryPolicy, let delay = policy.perTryTimeout, policy.maxRetries > 0 {
            action.hedging = Hedging(delay: delay, maxAttempts: UInt32(clamping: policy.maxRetries))
            action.retryPolicy?.perTryTimeout = nil
        }
        if let own, own.bool(.only_idempotent) == true {
            if action.retryPolicy == nil { own.fail(.only_idempotent, expected: "retry_policy beside it", found: "none") }
            action.retryPolicy?.onlyIdempotent = true
        }
        return action
    }
}

/// envoy.config.route.v3.HedgePolicy.
enum HedgePolicyField: Int, WireField {
    case initial_requests = 1
    case additional_request_chance = 2
    case hedge_on_per_try_timeout = 3
}

extension MessageReader<ForwardAction.Fields> {
    func hedges() -> Bool {
        guard let policy = message(.hedge_policy, HedgePolicyField.self) else { return false }
        if let requests = policy.wrapped(.initial_requests), requests != 1 {
            policy.fail(.initial_requests, expected: "1", found: requests)
        }
        if let chance = policy.share(.additional_request_chance), chance.millionths != 0 {
            policy.fail(.additional_request_chance, expected: "0", found: "\(chance.percent) percent")
        }
        return policy.bool(.hedge_on_per_try_timeout)
    }
}

extension HashKey: WireMessage {
    /// envoy.config.route.v3.RouteAction.HashPolicy.
    enum Fields: Int, WireField {
        case header = 1
        case cookie = 2
        case connection_properties = 3
        case terminal = 4
        case query_parameter = 5
        case filter_state = 6
    }

    /// RouteAction.HashPolicy.Header.
    fileprivate enum HeaderField: Int, WireField {
        case header_name = 1
        case regex_rewrite = 2
    }

    /// RouteAction.HashPolicy.Cookie. Path and attributes are for cookies that Envoy makes.
    fileprivate enum CookieField: Int, WireField {
        case name = 1
        case ttl = 2
    }

    /// RouteAction.HashPolicy.ConnectionProperties.
    fileprivate enum ConnectionField: Int, WireField {
        case source_ip = 1
    }

    func write(to message: inout MessageWriter<Fields>) {
        switch self {
        case .header(let name): message.message(.header, HeaderField.self) { $0.string(.header_name, name) }
        case .cookie(let name): message.message(.cookie, CookieField.self) { $0.string(.name, name) }
        case .sourceAddress: message.message(.connection_properties, ConnectionField.self) { $0.bool(.source_ip, true) }
        }
        message.bool(.terminal, true)
    }

    static func read(_ message: MessageReader<Fields>) -> HashKey? {
        message.refuse(.query_parameter, .filter_state)
        switch message.chosen(.header, .cookie, .connection_properties, .query_parameter, .filter_state) {
        case .header:
            guard let header = message.message(.header, HeaderField.self) else { return nil }
            header.refuse(.regex_rewrite)
            return .header(header.requiredString(.header_name).lowercased())
        case .cookie:
            guard let cookie = message.message(.cookie, CookieField.self) else { return nil }
            cookie.refuse(.ttl)  // Outrigger would have to give callers a cookie.
            return .cookie(cookie.requiredString(.name))
        case .connection_properties:
            let properties = message.message(.connection_properties, ConnectionField.self)
            if properties?.bool(.source_ip) == false { properties?.fail(.source_ip, expected: "true", found: false) }
            return .sourceAddress
        case nil:
            message.fail(.header, expected: "header, cookie or connection_properties", found: "none of them")
            return nil
        default: return nil  // Refused above.
        }
    }
}

extension MessageReader<ForwardAction.Fields> {
    /// With us the first that a request has is its key; Envoy mixes those that are not terminal.
    func hashKeys() -> [HashKey] {
        let policies = messages(.hash_policy, HashKey.Fields.self)
        for policy in policies.dropLast() where !policy.bool(.terminal) { policy.fail(.terminal, expected: "true", found: false) }
        return policies.compactMap(HashKey.read)
    }
}

extension RequestMirror: WireMessage {
    /// envoy.config.route.v3.RouteAction.RequestMirrorPolicy.
    enum Fields: Int, WireField {
        case cluster = 1
        case runtime_fraction = 3
        case cluster_header = 5
        case disable_shadow_host_suffix_append = 6
        case request_headers_mutations = 7
        case host_rewrite_literal = 8
    }

    /// The copy has the host of the request; Envoy would write "-shadow" behind it.
    func write(to message: inout MessageWriter<Fields>) {
        message.string(.cluster, cluster)
        if share != .all { message.runtimeShare(.runtime_fraction, share) }
        message.bool(.disable_shadow_host_suffix_append, true)
    }

    static func read(_ message: MessageReader<Fields>) -> RequestMirror? {
        message.refuse(.cluster_header, .request_headers_mutations, .host_rewrite_literal)
        return RequestMirror(cluster: message.requiredString(.cluster), share: message.runtimeShare(.runtime_fraction) ?? .all)
    }
}

import Base
import ProxyConfig

extension ForwardAction: WireMessage {
    /// envoy.config.route.v3.RouteAction.
    enum Fields: Int, WireField {
        case cluster = 1
        case cluster_header = 2
        case weighted_clusters = 3
        case metadata_match = 4
        case prefix_rewrite = 5
        case host_rewrite_literal = 6
        case auto_host_rewrite = 7
        case timeout = 8
        case retry_policy = 9
        case priority = 11
        case rate_limits = 13
        case hash_policy = 15
        case cors = 17
        case idle_timeout = 24
        case upgrade_configs = 25
        case hedge_policy = 27
        case host_rewrite_header = 29
        case request_mirror_policies = 30
        case regex_rewrite = 32
        case retry_policy_typed_config = 33
        case internal_redirect_policy = 34
        case host_rewrite_path_regex = 35
        case max_stream_duration = 36
        case cluster_specifier_plugin = 37
        case inline_cluster_specifier_plugin = 39
        case path_rewrite_policy = 41
        case host_rewrite = 44
        case path_rewrite = 45
    }

    func write(to message: inout MessageWriter<Fields>) {
        switch target {
        case .cluster(let name): message.chosenString(.cluster, name)
        case .weighted(let clusters):
            message.message(.weighted_clusters, WeightedClusterField.self) { $0.messages(.clusters, clusters) }
        }
        switch pathRewrite {
        case .prefix(let prefix): message.string(.prefix_rewrite, prefix)
        case .full(let path):
            message.message(.regex_rewrite, RegexRewriteField.self) {
                $0.message(.pattern, RegexMatcherField.self) { $0.chosenString(.regex, wholePath) }
                $0.string(.substitution, path.split(separator: "\\", omittingEmptySubsequences: false).joined(separator: "\\\\"))
            }
        case nil: break
        }
        switch hostRewrite {
        case .literal(let host): message.chosenString(.host_rewrite_literal, host)
        case .endpointHostname: message.wrapped(.auto_host_rewrite, true)
        case nil: break
        }
        message.duration(.timeout, timeout ?? .zero)
        if let retryPolicy { message.message(.retry_policy, retryPolicy) }
        message.messages(.hash_policy, hashKeys)
        if let idleTimeout { message.duration(.idle_timeout, idleTimeout) }
        if hedging != nil { message.message(.hedge_policy, HedgePolicyField.self) { $0.bool(.hedge_on_per_try_timeout, true) } }
        message.messages(.request_mirror_policies, mirrors)
    }

    /// A timeout that is not there is Envoy's 15 s. `hedge_policy` is read with what the route says beside it: see `hedging`.
    static func read(_ message: MessageReader<Fields>) -> ForwardAction? {
        message.refuse(
            .cluster_header, .metadata_match, .rate_limits, .cors, .upgrade_configs, .host_rewrite_header, .retry_policy_typed_config,
            .internal_redirect_policy, .host_rewrite_path_regex, .max_stream_duration, .cluster_specifier_plugin,
            .inline_cluster_specifier_plugin, .path_rewrite_policy, .host_rewrite, .path_rewrite)
        if message.number(.priority) != 0 { message.fail(.priority, expected: "DEFAULT (0)", found: message.number(.priority)) }
        let (pathRewrite, hostRewrite) = (message.pathRewrite(), message.hostRewrite())
        let timeout = message.timeout(.timeout) ?? .seconds(15)
        let (idleTimeout, policy) = (message.timeout(.idle_timeout), message.message(.retry_policy, RetryPolicy.self))
        let (hashKeys, mirrors) = (message.hashKeys(), message.messages(.request_mirror_policies, RequestMirror.self))
        guard let target = message.target() else { return nil }
        return ForwardAction(
            target: target, pathRewrite: pathRewrite, hostRewrite: hostRewrite, timeout: timeout, idleTimeout: idleTimeout ?? nil,
            retryPolicy: policy, hashKeys: hashKeys, mirrors: mirrors)
    }
}

/// The regex of a rewrite that replaces the whole path.
private let wholePath = "^.*$"

extension MessageReader<ForwardAction.Fields> {
    fileprivate func target() -> ClusterTarget? {
        switch chosen(.cluster, .cluster_header, .weighted_clusters, .cluster_specifier_plugin, .inline_cluster_specifier_plugin) {
        case .cluster: return .cluster(requiredString(.cluster))
        case .weighted_clusters:
            guard let weighted = message(.weighted_clusters, WeightedClusterField.self) else { return nil }
            let clusters = weighted.messages(.clusters, WeightedCluster.self)
            weighted.checkSum(clusters)
            return .weighted(clusters)
        case nil:
            fail(.cluster, expected: "cluster or weighted_clusters", found: "neither")
            return nil
        default: return nil  // Refused above.
        }
    }

    fileprivate func pathRewrite() -> ForwardAction.PathRewrite? {
        let prefix = string(.prefix_rewrite)
        guard let rewrite = message(.regex_rewrite, RegexRewriteField.self) else { return prefix.isEmpty ? nil : .prefix(prefix) }
        if !prefix.isEmpty { fail(.regex_rewrite, expected: "one rewrite of the path", found: "prefix_rewrite too") }
        let regex = rewrite.message(.pattern, RegexMatcherField.self)?.string(.regex) ?? ""
        if regex != wholePath { rewrite.fail(.pattern, expected: "\(wholePath), which replaces the whole path", found: "\"\(regex)\"") }
        return literal(rewrite.string(.substitution)).map(ForwardAction.PathRewrite.full)
    }

    /// RE2's replacement text without its escapes: `\\` is a backslash, `\1` would be a part of the path.
    private func literal(_ substitution: String) -> String? {
        var text = ""
        var characters = substitution.unicodeScalars.makeIterator()
        while let character = characters.next() {
            if character == "\\", characters.next() != "\\" {
                fail(.regex_rewrite, expected: "a substitution without references", found: "\"\(substitution)\"")
                return nil
            }
            text.unicodeScalars.append(character)
        }
        return text
    }

    fileprivate func hostRewrite() -> ForwardAction.HostRewrite? {
        switch chosen(.host_rewrite_literal, .auto_host_rewrite, .host_rewrite_header, .host_rewrite_path_regex, .host_rewrite) {
        case .host_rewrite_literal: .literal(string(.host_rewrite_literal))
        case .auto_host_rewrite: wrappedBool(.auto_host_rewrite) == true ? .endpointHostname : nil
        default: nil
        }
    }
}

/// envoy.type.matcher.v3.RegexMatchAndSubstitute.
enum RegexRewriteField: Int, WireField {
    case pattern = 1
    case substitution = 2
}

/// envoy.config.route.v3.WeightedCluster, and TcpProxy.WeightedCluster.
enum WeightedClusterField: Int, WireField {
    case clusters = 1
}

extension MessageReader<WeightedClusterField> {
    func checkSum(_ clusters: [WeightedCluster]) {
        let sum = clusters.reduce(UInt64(0)) { $0 + UInt64($1.weight) }
        if !(1...UInt64(UInt32.max)).contains(sum) {
            fail(.clusters, expected: "weights with a sum from 1 through \(UInt32.max)", found: sum)
        }
    }
}

extension WeightedCluster: WireMessage {
    /// envoy.config.route.v3.WeightedCluster.ClusterWeight.
    enum Fields: Int, WireField {
        case name = 1
        case weight = 2
        case metadata_match = 3
        case request_headers_to_add = 4
        case response_headers_to_add = 5
        case response_headers_to_remove = 6
        case request_headers_to_remove = 9
        case typed_per_filter_config = 10
        case host_rewrite_literal = 11
        case cluster_header = 12
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.name, name)
        message.wrapped(.weight, weight)
    }

    static func read(_ message: MessageReader<Fields>) -> WeightedCluster? {
        message.refuse(
            .metadata_match, .request_headers_to_add, .response_headers_to_add, .response_headers_to_remove, .request_headers_to_remove,
            .typed_per_filter_config, .host_rewrite_literal, .cluster_header)
        let name = message.requiredString(.name)
        if !message.has(.weight) { message.fail(.weight, expected: "a value", found: "nothing") }
        return message.wrapped(.weight).map { WeightedCluster(name: name, weight: $0) }
    }
}

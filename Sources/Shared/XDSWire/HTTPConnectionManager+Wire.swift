import Base
import ProxyConfig

extension HTTPConnectionManager: WireMessage {
    /// envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.
    enum Fields: Int, WireField {
        case codec_type = 1
        case stat_prefix = 2
        case rds = 3
        case route_config = 4
        case http_filters = 5
        case http_protocol_options = 8
        case http2_protocol_options = 9
        case server_name = 10
        case access_log = 13
        case use_remote_address = 14
        case forward_client_cert_details = 16
        case set_current_client_cert_details = 17
        case xff_num_trusted_hops = 19
        case upgrade_configs = 23
        case stream_idle_timeout = 24
        case max_request_headers_kb = 29
        case normalize_path = 30
        case scoped_routes = 31
        case merge_slashes = 33
        case server_header_transformation = 34
        case common_http_protocol_options = 35
        case local_reply_config = 38
        case request_headers_timeout = 41
        case strip_any_host_port = 42
        case original_ip_detection_extensions = 46
        case early_header_mutation_extensions = 52
        case forward_client_cert_matcher = 60
    }

    /// As the fields say, and so that Envoy does what Outrigger does: paths are normalised, HTTP/1.0 is taken, routes may have the filters
    /// of `RouteFilter`, and only a route's own idle timeout ends a silent stream. `maxHeaderBytes` is rounded up to whole KiB, the unit of
    /// the field.
    func write(to message: inout MessageWriter<Fields>) {
        message.number(.codec_type, codec == .auto ? 0 : codec == .http1 ? 1 : 2)
        message.string(.stat_prefix, statPrefix)
        message.message(.rds, RDSField.self) {
            $0.adsSource(.config_source)
            $0.string(.route_config_name, routeConfigurationName)
        }
        message.routeFilters()
        message.message(.http_filters, HTTPFilterField.self) {
            $0.string(.name, "envoy.filters.http.router")
            $0.any(.typed_config, .router, NoField.self) { _ in }
        }
        message.message(.http_protocol_options, HTTP1OptionsField.self) { $0.bool(.accept_http_10, true) }
        message.message(.http2_protocol_options, http2)
        message.string(.server_name, serverName ?? "")
        message.messages(.access_log, accessLogs)
        message.wrapped(.use_remote_address, isEdge)
        if case .sanitizeSet(let details) = forwardClientCertificate {
            message.number(.forward_client_cert_details, Self.sanitizeSet)
            message.message(.set_current_client_cert_details, ClientCertificateDetailsField.self) {
                $0.wrapped(.subject, details.subject)
                $0.bool(.dns, details.dns)
                $0.bool(.uri, details.uri)
            }
        }
        for type in upgradeTypes {
            message.message(.upgrade_configs, UpgradeConfigField.self) { $0.string(.upgrade_type, type) }
        }
        message.duration(.stream_idle_timeout, .zero)
        message.wrapped(.max_request_headers_kb, maxHeaderBytes / 1024 + (maxHeaderBytes % 1024 > 0 ? 1 : 0))
        message.wrapped(.normalize_path, true)
        message.bool(.merge_slashes, true)
        message.number(.server_header_transformation, serverName == nil ? Self.passThrough : Self.overwrite)
        message.message(.common_http_protocol_options, CommonHTTPOptionsField.self) {
            $0.duration(.idle_timeout, idleTimeout ?? .zero)
            $0.wrapped(.max_headers_count, maxHeaderCount)
            if let maxConnectionAge { $0.duration(.max_connection_duration, maxConnectionAge) }
        }
        message.duration(.request_headers_timeout, requestHeadersTimeout)
    }

    private static let overwrite = 0
    private static let passThrough = 2
    fileprivate static let sanitizeSet = 3

    /// Values that are not there are Envoy's defaults, but for two. The head of a request must always come in some time: 10 s. And
    /// without a server name the upstream's `server` field passes, since "envoy" would be a lie.
    static func read(_ message: MessageReader<Fields>) -> HTTPConnectionManager? {
        message.refuse(
            .scoped_routes, .xff_num_trusted_hops, .original_ip_detection_extensions, .early_header_mutation_extensions,
            .local_reply_config, .forward_client_cert_matcher)
        if message.bool(.strip_any_host_port) { message.refuse(.strip_any_host_port) }
        let codec: Codec
        switch message.number(.codec_type) {
        case 0: codec = .auto
        case 1: codec = .http1
        case 2: codec = .http2
        case let other:
            message.fail(.codec_type, expected: "AUTO (0), HTTP1 (1) or HTTP2 (2)", found: other)
            return nil
        }
        message.checkFilters()
        guard let routes = message.routeConfigurationName() else { return nil }

        let options = message.message(.common_http_protocol_options, CommonHTTPOptionsField.self)
        options?.refuse(.max_stream_duration, .max_requests_per_connection)
        let serverName = message.string(.server_name)
        let transformation = message.number(.server_header_transformation)
        if transformation != Self.overwrite, transformation != Self.passThrough {
            message.fail(.server_header_transformation, expected: "OVERWRITE (0) or PASS_THROUGH (2)", found: transformation)
        }
        return HTTPConnectionManager(
            statPrefix: message.requiredString(.stat_prefix), codec: codec, routeConfigurationName: routes,
            accessLogs: message.messages(.access_log, AccessLog.self), upgradeTypes: message.upgradeTypes(),
            idleTimeout: options?.timeout(.idle_timeout) ?? .seconds(3600),
            requestHeadersTimeout: (message.timeout(.request_headers_timeout) ?? nil) ?? .seconds(10),
            maxHeaderBytes: Int(message.wrapped(.max_request_headers_kb, in: 1...8192) ?? 60) * 1024,
            maxHeaderCount: Int(options?.wrapped(.max_headers_count, in: 1...65536) ?? 100),
            isEdge: message.wrappedBool(.use_remote_address) ?? false,
            serverName: serverName.isEmpty || transformation == Self.passThrough ? nil : serverName,
            http2: message.message(.http2_protocol_options, HTTP2Options.self) ?? HTTP2Options(allowsExtendedConnect: false),
            maxConnectionAge: options?.timeout(.max_connection_duration) ?? nil,
            forwardClientCertificate: message.forwardClientCertificate())
    }
}

/// envoy.extensions.filters.network.http_connection_manager.v3.Rds.
enum RDSField: Int, WireField {
    case config_source = 1
    case route_config_name = 2
}

/// envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter.
enum HTTPFilterField: Int, WireField {
    case name = 1
    case typed_config = 4
    case config_discovery = 5
    case is_optional = 6
    case disabled = 7
}

/// envoy.config.core.v3.Http1ProtocolOptions.
enum HTTP1OptionsField: Int, WireField {
    case accept_http_10 = 2
}

/// envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig.
enum UpgradeConfigField: Int, WireField {
    case upgrade_type = 1
    case filters = 2
    case enabled = 3
}

/// envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails.
enum ClientCertificateDetailsField: Int, WireField {
    case subject = 1
    case cert = 3
    case dns = 4
    case uri = 5
    case chain = 6
}

extension MessageReader<HTTPConnectionManager.Fields> {
    /// To forward what a caller says about itself is refused: to believe it is to let it be anybody.
    fileprivate func forwardClientCertificate() -> ClientCertificateForwarding {
        let mode = number(.forward_client_cert_details)
        guard mode == HTTPConnectionManager.sanitizeSet else {
            if mode != 0 { fail(.forward_client_cert_details, expected: "SANITIZE (0) or SANITIZE_SET (3)", found: mode) }
            return .sanitize
        }
        let details = message(.set_current_client_cert_details, ClientCertificateDetailsField.self)
        for field in [ClientCertificateDetailsField.cert, .chain] where details?.bool(field) == true { details?.refuse(field) }
        return .sanitizeSet(
            ClientCertificateDetails(
                subject: details?.wrappedBool(.subject) ?? false, uri: details?.bool(.uri) ?? false, dns: details?.bool(.dns) ?? false))
    }

    /// The router must stand at the end. Before it only filters may stand that need not run.
    fileprivate func checkFilters() {
        let filters = messages(.http_filters, HTTPFilterField.self)
        for (index, filter) in filters.enumerated() {
            let isLast = index == filters.count - 1
            filter.refuse(.config_discovery)
            let config = filter.any(.typed_config)
            if config?.type == .router {
                if !isLast { filter.fail(.typed_config, expected: "the router at the end only", found: "a filter after it") }
            } else if isLast || !(filter.bool(.is_optional) || filter.bool(.disabled)) {
                filter.fail(
                    .typed_config, expected: isLast ? "the router at the end" : "a filter that is optional or that Outrigger knows",
                    found: config?.typeName ?? "nothing")
            }
        }
        if filters.isEmpty { fail(.http_filters, expected: "the router at the end", found: "no filter") }
    }

    /// Inline routes are taken out and get a name of their own: the name in them need not be unique.
    fileprivate func routeConfigurationName() -> String? {
        switch chosen(.rds, .route_config, .scoped_routes) {
        case .rds:
            guard let rds = message(.rds, RDSField.self) else { return nil }
            rds.requireADSSource(.config_source)
            return rds.requiredString(.route_config_name)
        case .route_config:
            guard var routes = message(.route_config, RouteConfiguration.self) else { return nil }
            routes.name = "\(context.listenerName)/routes[\(context.inlineRoutes.count)]"
            context.inlineRoutes.append(routes)
            return routes.name
        default:
            fail(.rds, expected: "rds or route_config", found: "neither")
            return nil
        }
    }

    fileprivate func upgradeTypes() -> [String] {
        messages(.upgrade_configs, UpgradeConfigField.self).compactMap { config in
            config.refuse(.filters)
            return config.wrappedBool(.enabled) ?? true ? config.requiredString(.upgrade_type) : nil
        }
    }
}

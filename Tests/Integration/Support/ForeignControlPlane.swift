import Foundation
import TestSupport
import XDSWire

/// `ads_server.py`, a control plane made of grpcio and xds-protos. It serves Envoy's JSON.
final class ForeignControlPlane {
    let folder: TemporaryFolder
    let port: UInt16
    private(set) var program: Program
    /// JSON of messages, by kind.
    private var resources: [String: [String]] = [:]
    private var versions: [String: Int] = [:]

    /// One request, as the server has decoded it.
    struct Request {
        var kind: String
        var version: String
        var nonce: String
        var names: [String]
        /// The reason of a NACK.
        var error: String?
        var nodeID: String?
        var instance: String?
    }

    init(files: [String: String] = [:]) throws {
        folder = try TemporaryFolder()
        for (name, path) in files { try folder.replace(name, with: Array(FileManager.default.contents(atPath: path) ?? Data())) }
        (program, port) = try Peers.start("ads_server.py", [folder.path])
    }

    func kill() {
        program.end()
    }

    /// Again on the same port.
    func restart() throws {
        program = try Peers.start("ads_server.py", [folder.path, "\(port)"]).program
    }

    /// Serves these, with a new version for each of the kinds, and pushes them in the order in which they stand.
    func serve(_ changes: (kind: String, resources: [String])...) throws {
        for (kind, messages) in changes {
            resources[kind] = messages
            versions[kind, default: 0] += 1
        }
        func quoted(_ words: [String]) -> String { words.map { "\"\($0)\"" }.joined(separator: ", ") }
        let order = changes.map(\.kind) + resources.keys.filter { kind in !changes.contains { $0.kind == kind } }.sorted()
        let versions = self.versions.map { "\"\($0)\": \"\($1)\"" }.joined(separator: ", ")
        let lists = resources.map { "\"\($0)\": [\($1.joined(separator: ",\n"))]" }.joined(separator: ",\n")
        let text = "{\"push\": [\(quoted(order))], \"versions\": {\(versions)}, \"resources\": {\(lists)}}"
        try folder.replace("config.json", with: Array(text.utf8))
    }

    // MARK: What came

    private var entries: [[String: Any]] {
        folder.text("log").split(separator: "\n").compactMap {
            try? JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
        }
    }

    var requests: [Request] {
        entries.compactMap { entry in
            guard let kind = entry["type"] as? String else { return nil }
            let node = entry["node"] as? [String: Any]
            let metadata = (node?["metadata"] as? [String: Any])?["outrigger"] as? [String: Any]
            return Request(
                kind: kind, version: entry["version"] as? String ?? "", nonce: entry["nonce"] as? String ?? "",
                names: entry["names"] as? [String] ?? [], error: entry["error"] as? String, nodeID: node?["id"] as? String,
                instance: metadata?["instance"] as? String)
        }
    }

    var streams: Int { entries.count { $0["event"] as? String == "open" } }

    func reports() throws -> [NodeReport] {
        try entries.compactMap { $0["report"] as? String }.map { text in
            try NodeReport(decoding: Array(Data(base64Encoded: text) ?? Data()))
        }
    }

    /// Waits until what is served of these kinds is acknowledged.
    func waitForACK(_ kinds: String...) throws {
        for kind in kinds {
            let version = "\(versions[kind] ?? 0)"
            try eventually("\(kind) \(version) is acknowledged; requests: \(requests.suffix(8))") {
                requests.contains { $0.kind == kind && $0.version == version && !$0.nonce.isEmpty && $0.error == nil }
            }
        }
    }

    /// Waits for a refusal, and gives its reason.
    func waitForNACK(_ kind: String, after count: Int = 0) throws -> String {
        var found: [String] = []
        try eventually("\(kind) is refused; requests: \(requests.suffix(8))") {
            found = requests.filter { $0.kind == kind }.compactMap(\.error)
            return found.count > count
        }
        return found[count]
    }

    // MARK: Messages

    private static let ads = #"{"ads": {}, "resource_api_version": "V3"}"#

    static func cluster(_ name: String, more: String = "") -> String {
        #"{"name": "\#(name)", "type": "EDS", "eds_cluster_config": {"eds_config": \#(ads)}, "connect_timeout": "5s"\#(more)}"#
    }

    static func endpoints(_ name: String, _ ports: UInt16...) -> String {
        let hosts = ports.map {
            #"{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": \#($0)}}}}"#
        }.joined(separator: ", ")
        return
            #"{"cluster_name": "\#(name)", "endpoints": [{"locality": {"zone": "a"}, "load_balancing_weight": 1, "lb_endpoints": [\#(hosts)]}]}"#
    }

    static func listener(_ name: String, _ port: UInt16, routes: String = "routes", more: String = "") -> String {
        let types = "type.googleapis.com/envoy.extensions.filters"
        let router = #"{"name": "router", "typed_config": {"@type": "\#(types).http.router.v3.Router"}}"#
        let rds = #"{"config_source": \#(ads), "route_config_name": "\#(routes)"}"#
        let manager =
            #"{"@type": "\#(types).network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "egress", "rds": \#(rds), "#
            + #""http_filters": [\#(router)]}"#
        return #"{"name": "\#(name)", "traffic_direction": "OUTBOUND", "#
            + #""address": {"socket_address": {"address": "127.0.0.1", "port_value": \#(port)}}, "#
            + #""filter_chains": [{"filters": [{"name": "http", "typed_config": \#(manager)}]\#(more)}]}"#
    }

    static func routes(to cluster: String, name: String = "routes", match: String = #""prefix": "/""#) -> String {
        #"{"name": "\#(name)", "virtual_hosts": [{"name": "all", "domains": ["*"], "#
            + #""routes": [{"match": {\#(match)}, "route": {"cluster": "\#(cluster)"}}]}]}"#
    }

    static func certificate(_ name: String, _ pair: TestCertificates.Pair) -> String {
        #"{"name": "\#(name)", "tls_certificate": {"certificate_chain": {"inline_string": \#(text(pair.chain))}, "#
            + #""private_key": {"inline_string": \#(text(pair.key))}}}"#
    }

    static func text(_ path: String) -> String {
        let bytes = FileManager.default.contents(atPath: path) ?? Data()
        return "\"" + String(decoding: bytes, as: UTF8.self).split(separator: "\n").joined(separator: "\\n") + "\\n\""
    }

    /// What a listener's chain needs to speak TLS with a secret.
    static func downstreamTLS(_ secret: String) -> String {
        let type = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
        let config = #"{"name": "\#(secret)", "sds_config": \#(ads)}"#
        return #", "transport_socket": {"name": "tls", "typed_config": {"@type": "\#(type)", "#
            + #""common_tls_context": {"tls_certificate_sds_secret_configs": [\#(config)]}}}"#
    }
}

/// The built `outrigger-proxy` that gets its configuration from a control plane.
final class ManagedProxy {
    let program: Program
    let admin: UInt16

    init(port: UInt16, admin: UInt16? = nil, arguments: [String] = []) throws {
        let admin = try admin ?? Ports.free()
        self.admin = admin
        program = try Program(
            Proxy.executable,
            [
                "--control-plane", "127.0.0.1:\(port)", "--node", "cart", "--mesh", "shop", "--instance", "one", "--admin-address",
                "127.0.0.1:\(admin)", "--workers", "2",
            ] + arguments)
    }

    var log: String { program.errors }

    func waitForLog(_ text: String) throws {
        try eventually("the proxy says \"\(text)\"; it said:\n\(log)") {
            if let status = program.exitStatus(), !log.contains(text) { throw TestFailure("the proxy ended with \(status):\n\(log)") }
            return log.contains(text)
        }
    }

    func page(_ path: String) throws -> HTTPMessage {
        try RawConnection(to: admin).exchange("GET \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    }

    func waitForPage(_ path: String, _ what: String, _ condition: (HTTPMessage) -> Bool) throws {
        var last: HTTPMessage?
        try eventually("\(path): \(what); it is \(last?.bodyText ?? "absent"); the proxy said:\n\(log)") {
            last = try? page(path)
            return last.map(condition) ?? false
        }
    }

    func stop() throws -> Int32 {
        program.signal(SIGTERM)
        return try program.wait().status
    }
}

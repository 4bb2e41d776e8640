import Base
import ControlAPI
import EventStore
import Projections
import XDSWire

/// `/metrics` of the control plane: itself, and the mesh as its proxies report it, so that one scrape sees all (docs/metrics.md).
struct MeshMetrics {
    private let controller: Controller
    private static let bounds: [Double] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

    init(_ controller: Controller) {
        self.controller = controller
    }

    func text() -> String {
        var page = MetricsPage()
        own(&page)
        proxies(&page)
        traffic(&page)
        return page.text
    }

    private func own(_ page: inout MetricsPage) {
        let models = controller.journal.models
        page.family("outriggerd_revision", "gauge", "The newest revision of the mesh.")
        page.sample("outriggerd_revision", [], models.desired.revision)
        page.family("outriggerd_resources", "gauge", "Resources of the mesh, by kind.")
        for (kind, keys) in Dictionary(grouping: models.desired.objects.keys, by: \.kind).sorted(by: { $0.key < $1.key }) {
            page.sample("outriggerd_resources", [("kind", kind)], keys.count)
        }
        page.family("outriggerd_events_total", "counter", "Events in the log.")
        page.sample("outriggerd_events_total", [], models.sequence)
        page.family("outriggerd_faults", "gauge", "Nodes and resources that cannot be compiled: their proxies keep what they have.")
        page.sample("outriggerd_faults", [], controller.publisher.faults.count + models.desired.unreadable.count)
        page.family("outriggerd_compilations_total", "counter", "How often a node was compiled.")
        page.sample("outriggerd_compilations_total", [], controller.publisher.compilations)
        if let root = models.certificates.authorities.last {
            page.family("outriggerd_authority_expiry_seconds", "gauge", "When the root certificate of the mesh ends, since 1970.")
            page.sample("outriggerd_authority_expiry_seconds", [], root.notAfter.milliseconds / 1000)
        }
        page.family("outriggerd_xds_streams", "gauge", "Open ADS streams.")
        page.sample("outriggerd_xds_streams", [], controller.ads.streams.count)
        page.family("outriggerd_xds_pushes_total", "counter", "Responses sent on ADS streams.")
        page.sample("outriggerd_xds_pushes_total", [], controller.ads.pushes)
        page.family("outriggerd_xds_pushed_bytes_total", "counter", "Bytes of these.")
        page.sample("outriggerd_xds_pushed_bytes_total", [], controller.ads.pushedBytes)
        page.family("outriggerd_xds_acks_total", "counter", "Responses that clients accepted.")
        page.sample("outriggerd_xds_acks_total", [], controller.ads.acks)
        page.family("outriggerd_xds_nacks_total", "counter", "Responses that clients refused.")
        page.sample("outriggerd_xds_nacks_total", [], controller.ads.nacks)
    }

    private func proxies(_ page: inout MetricsPage) {
        let instances = controller.fleet.sorted.filter(\.isConnected)
        page.family("outrigger_mesh_proxies", "gauge", "Connected proxies, by state.")
        let states = Dictionary(grouping: instances) { $0.report.map { "\($0.state)" } ?? "connected" }
        for (state, members) in states.sorted(by: { $0.key < $1.key }) {
            page.sample("outrigger_mesh_proxies", [("state", state)], members.count)
        }
        page.family("outrigger_mesh_proxies_outdated", "gauge", "Connected proxies that do not run what they should.")
        let outdated = instances.count { $0.wanted != nil && $0.report != nil && $0.report?.applied?.version != $0.wanted }
        page.sample("outrigger_mesh_proxies_outdated", [], outdated)
        page.family("outrigger_mesh_proxies_refusing", "gauge", "Connected proxies that refused their configuration.")
        page.sample("outrigger_mesh_proxies_refusing", [], instances.count { $0.rejection != nil })
        page.family(
            "outrigger_mesh_config_age_seconds_max", "gauge",
            "The longest that a connected proxy has not known its configuration to be current.")
        page.sample(
            "outrigger_mesh_config_age_seconds_max", [], Double(instances.compactMap { $0.report?.configurationAge }.max() ?? 0) / 1000)
        if let expiry = instances.compactMap({ $0.report?.certificates.map(\.notAfter).min() }).min() {
            page.family("outrigger_mesh_certificate_expiry_seconds_min", "gauge", "When the first certificate of a proxy ends, since 1970.")
            page.sample("outrigger_mesh_certificate_expiry_seconds_min", [], Double(expiry) / 1000)
        }
        page.family("outrigger_mesh_proxies_with_identity", "gauge", "Connected proxies with a certificate of the mesh.")
        page.sample("outrigger_mesh_proxies_with_identity", [], instances.count { controller.hasIdentity($0.key) })
        page.family("outrigger_mesh_proxy_memory_bytes", "gauge", "Resident memory of the connected proxies together.")
        page.sample("outrigger_mesh_proxy_memory_bytes", [], instances.reduce(0) { $0 + ($1.report?.process.residentMemory ?? 0) })
    }

    private func traffic(_ page: inout MetricsPage) {
        let edges = controller.traffic.totals.sorted { $0.key < $1.key }
        func labels(_ edge: TrafficWindow.Edge) -> [(String, String)] {
            [("caller", "\(edge.caller.namespace ?? "")/\(edge.caller.name)"), ("service", edge.service)]
        }
        page.family("outrigger_mesh_requests_total", "counter", "Requests from the proxies of a node to a service.")
        for (edge, traffic) in edges { page.sample("outrigger_mesh_requests_total", labels(edge), traffic.requests) }
        page.family("outrigger_mesh_errors_total", "counter", "Of these, answered with 5xx or a gRPC error.")
        for (edge, traffic) in edges { page.sample("outrigger_mesh_errors_total", labels(edge), traffic.errors) }
        page.family("outrigger_mesh_request_duration_seconds", "histogram", "How long they took, as the callers' proxies saw it.")
        for (edge, traffic) in edges {
            for (bound, count) in zip(Self.bounds, traffic.latency.counts(atMost: Self.bounds.map { $0 * 1e9 })) {
                page.sample("outrigger_mesh_request_duration_seconds_bucket", labels(edge) + [("le", "\(bound)")], count)
            }
            page.sample("outrigger_mesh_request_duration_seconds_bucket", labels(edge) + [("le", "+Inf")], traffic.latency.count)
            page.sample("outrigger_mesh_request_duration_seconds_sum", labels(edge), Double(traffic.latency.sum) / 1e9)
            page.sample("outrigger_mesh_request_duration_seconds_count", labels(edge), traffic.latency.count)
        }
        page.family("outrigger_mesh_ejections_total", "counter", "Ejections of endpoints, over all proxies.")
        page.sample("outrigger_mesh_ejections_total", [], controller.traffic.ejections)
        page.family("outrigger_mesh_ejected_endpoints", "gauge", "Endpoints that at least one proxy leaves alone now.")
        let ejected = Dictionary(grouping: MeshQueries(controller).outliers(), by: \.service)
        for (service, items) in ejected.sorted(by: { $0.key < $1.key }) {
            page.sample("outrigger_mesh_ejected_endpoints", [("service", service)], items.count)
        }
    }
}

/// Prometheus's text format, version 0.0.4.
struct MetricsPage {
    private(set) var text = ""

    mutating func family(_ name: String, _ type: String, _ help: String) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
    }

    mutating func sample(_ name: String, _ labels: [(String, String)], _ value: some CustomStringConvertible) {
        let list = labels.map { "\($0.0)=\"\(Self.escaped($0.1))\"" }.joined(separator: ",")
        text += list.isEmpty ? "\(name) \(value)\n" : "\(name){\(list)} \(value)\n"
    }

    private static func escaped(_ value: String) -> String {
        value.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
    }
}

import ProxyConfig

/// The metrics of App Mesh's metrics extension, derived from the blocks.
struct AppMeshMetrics {
    enum Value {
        case number(Double)
        /// Shown in milliseconds.
        case durations(DurationSummary)
    }

    struct Row {
        var labels: [(String, String)]
        var value: Value
    }

    struct Family {
        var name: StaticString
        var kind: StaticString
        var help: String
        var rows: [Row]
    }

    private(set) var families: [Family] = []
    private let proxy: [(String, String)]
    private let mesh: String

    /// Empty where the node is not known.
    init(_ scrape: borrowing Scrape) {
        guard let node = scrape.node else {
            (proxy, mesh) = ([], "")
            return
        }
        mesh = node.mesh
        proxy = [("Mesh", node.mesh), (node.role == .virtualNode ? "VirtualNode" : "VirtualGateway", node.name)]
        if let table = Self.table(.listener, scrape) {
            add("ActiveConnectionCount", "gauge", "Connections of callers open.", table.sum("downstream_cx_active"))
            add("NewConnectionCount", "counter", "Connections of callers accepted.", table.sum("downstream_cx_total"))
            let bytes = table.sum("downstream_cx_rx_bytes_total", "downstream_cx_tx_bytes_total")
            add("ProcessedBytes", "counter", "Bytes from and to callers.", bytes)
        }
        if let table = Self.table(.http, scrape) {
            add("RequestCount", "counter", "HTTP requests.", table.sum("downstream_rq_total"))
            add("GrpcRequestCount", "counter", "gRPC requests.", table.sum("downstream_rq_grpc_total"))
        }
        if let table = Self.table(.cluster, scrape) { addTargetBytes(table) }
        if let table = Self.table(.route, scrape) { addTargets(table) }
    }

    private static func table(_ kind: BlockKind, _ scrape: borrowing Scrape) -> StatTable? {
        let table = scrape.table(kind)
        return table.rows.isEmpty ? nil : table
    }

    private mutating func add(_ name: StaticString, _ kind: StaticString, _ help: String, _ value: UInt64) {
        let row = Row(labels: proxy, value: .number(Double(Int64(bitPattern: value))))
        families.append(Family(name: name, kind: kind, help: help, rows: [row]))
    }

    private mutating func add<Key: Hashable & Comparable>(
        _ name: StaticString, _ kind: StaticString, _ help: String, _ values: [Key: Value], _ labels: (Key) -> [(String, String)]
    ) {
        guard !values.isEmpty else { return }
        let rows = values.sorted { $0.key < $1.key }.map { Row(labels: proxy + labels($0.key), value: $0.value) }
        families.append(Family(name: name, kind: kind, help: help, rows: rows))
    }

    private mutating func addTargetBytes(_ table: StatTable) {
        var bytes: [String: UInt64] = [:]
        for row in table.rows {
            guard let target = Self.virtualNode(ofCluster: row.labels[0], mesh: mesh) else { continue }
            bytes[target, default: 0] &+= table.value("upstream_cx_rx_bytes_total", row) &+ table.value("upstream_cx_tx_bytes_total", row)
        }
        add("TargetProcessedBytes", "counter", "Bytes from and to targets.", bytes.mapValues { .number(Double($0)) }) {
            [("TargetVirtualNode", $0)]
        }
    }

    /// Requests by target: what was sent out, by virtual service and virtual node.
    private struct Target: Hashable, Comparable {
        var service: String
        var node: String

        static func < (left: Target, right: Target) -> Bool {
            (left.service, left.node) < (right.service, right.node)
        }

        var labels: [(String, String)] { [("TargetVirtualService", service), ("TargetVirtualNode", node)] }
    }

    private mutating func addTargets(_ table: StatTable) {
        guard let descriptor = table.descriptors.first(where: { $0.kind == .durations }) else { return }
        var byClass = [[Target: UInt64]](repeating: [:], count: RouteStats.classCount)
        var durations: [Target: DurationSummary] = [:]
        for row in table.rows {
            guard let node = Self.virtualNode(ofCluster: row.labels[3], mesh: mesh) else { continue }
            let target = Target(service: row.labels[1], node: node)
            for (index, summary) in row.reading.durations[descriptor.slot].enumerated() {
                byClass[index][target, default: 0] &+= summary.count
                durations[target] = (durations[target] ?? DurationSummary()) + summary
            }
        }
        let classes: [(StaticString, ResponseClass)] = [
            ("HTTPCode_Target_2XX_Count", .success), ("HTTPCode_Target_3XX_Count", .redirection),
            ("HTTPCode_Target_4XX_Count", .clientError),
            ("HTTPCode_Target_5XX_Count", .serverError),
        ]
        for (name, outcome) in classes {
            let values = byClass[Int(outcome.rawValue)].mapValues { Value.number(Double($0)) }
            add(name, "counter", "Requests to a target that ended with \(outcome.label).", values, \.labels)
        }
        add("RequestCountPerTarget", "counter", "Requests to a target.", durations.mapValues { .number(Double($0.count)) }, \.labels)
        add(
            "TargetResponseTime", "histogram", "Time of requests to a target, in milliseconds.", durations.mapValues { .durations($0) },
            \.labels)
    }

    /// `cds_egress_<mesh>_<node>_<protocol>_<port>` gives the node; nil for any other name.
    static func virtualNode(ofCluster name: String, mesh: String) -> String? {
        let prefix = "cds_egress_\(mesh)_"
        guard name.hasPrefix(prefix) else { return nil }
        let parts = name.dropFirst(prefix.count).split(separator: "_", omittingEmptySubsequences: false)
        guard parts.count >= 3 else { return nil }
        return parts.dropLast(2).joined(separator: "_")
    }
}

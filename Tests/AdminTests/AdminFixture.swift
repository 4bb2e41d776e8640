import Base
import HTTP
import ProxyConfig
import Reactor
import Resilience
import Telemetry
import TestSupport
import Testing

@testable import Proxy

/// A proxy with two clusters: `cart` ejects after two errors and has four endpoints, `plain` ejects nobody and has one.
final class AdminFixture {
    static let cart = "cds_egress_shop_cart_http_8080"
    static let bad = SocketAddress(.loopbackV4, 9003)

    let registry = StatsRegistry(workerCount: 2)
    let events = OutlierEventLog()
    let checks = HealthCheckBoard()
    let contexts = TLSContexts(loop: EventLoop())
    let snapshot: RuntimeSnapshot
    var state = ProxyState.live
    var now = Instant(nanoseconds: 1_000_000_000)
    var rejection: (version: String, reason: String)?
    var closedListeners: [(listener: Listener, reason: String)] = []

    init(listenerName: String = "out") throws {
        func endpoints(_ ports: ClosedRange<UInt16>) -> [LocalityEndpoints] {
            [
                LocalityEndpoints(
                    locality: Locality(zone: "a"), endpoints: ports.map { Endpoint(host: .ip(.loopbackV4), port: $0, weight: 2) })
            ]
        }
        let configuration = Snapshot(
            node: Node(mesh: "shop", role: .virtualNode, name: "front"),
            listeners: [
                Listener(
                    name: listenerName, address: SocketAddress(.loopbackV4, 15001), direction: .outbound,
                    filterChains: [FilterChain(name: "tcp", filter: .tcp(TCPProxy(statPrefix: "egress", target: .cluster("plain"))))])
            ],
            clusters: [
                Cluster(
                    name: Self.cart, discovery: .eds(serviceName: "cart"),
                    outlierDetection: OutlierDetection(
                        consecutive5xx: 2, interval: .seconds(30), baseEjectionTime: .seconds(10), maxEjectionPercent: 100)),
                Cluster(
                    name: "plain", discovery: .fixed(ClusterLoadAssignment(clusterName: "plain", localities: endpoints(9101...9101))),
                    tls: UpstreamTLS(validation: nil, certificate: .file(chain: "/keys/chain.pem", privateKey: "/keys/key.pem"))),
            ],
            loadAssignments: [ClusterLoadAssignment(clusterName: "cart", localities: endpoints(9001...9004))])
        var builder = SnapshotBuilder(logWriter: LogWriter(), events: events, tls: contexts, seed: 1)
        contexts.follow([configuration])
        snapshot = builder.finish(
            try builder.prepare(configuration, version: "abc123"), previous: nil, now: Instant(nanoseconds: 0))
    }

    /// Two errors in a row of one endpoint of `cart`.
    func eject() throws {
        let cluster = try #require(snapshot.clusters.first)
        let host = try #require(cluster.hosts.hosts.first { $0.address == Self.bad })
        for _ in 0..<2 { cluster.detector.record(.http5xx(status: 500), on: host.health, now: now) }
    }

    var view: AdminView {
        AdminView(
            state: state, now: now, wallClock: .zero, started: Instant(nanoseconds: 0), arguments: ["outrigger-proxy"],
            snapshotPath: "/run/snapshot", drainTime: .seconds(20), workerCount: 2, logLevel: .info, snapshot: snapshot,
            appliedAt: Instant(nanoseconds: 500_000_000), applications: 1, rejections: rejection == nil ? 0 : 1, rejection: rejection,
            closedListeners: closedListeners, certificates: contexts.board.report, registry: registry, events: events, checks: checks)
    }

    /// An answer, taken apart so that tests may keep it.
    struct Answer {
        var status: Int
        var type: String
        var allow: String?
        var action: AdminAction?
        var body: String

        func json() throws -> JSON { try JSON(body.utf8) }
    }

    /// `GET /stats?usedonly` from `localhost`.
    func ask(_ target: String, _ method: Method = .get, host: String = "localhost:9901") -> Answer {
        let head = Head()
        head.bytes = Array((target + host).utf8)
        head.method = method
        head.target = 0..<target.utf8.count
        head.authority = target.utf8.count..<head.bytes.count
        return ask(AdminRequest(head))
    }

    func ask(_ request: AdminRequest) -> Answer {
        let response = AdminPage.respond(to: request) { view }
        return Answer(
            status: response.status, type: response.contentType, allow: response.allow, action: response.action,
            body: unsafe String(decoding: response.body.unsafeBytes, as: UTF8.self))
    }
}

import Base
import ProxyConfig
import Testing

@testable import outrigger

@Suite("What a change of the files changed")
struct SnapshotChangeTests {
    private static func snapshot(_ change: (inout Snapshot) -> Void = { _ in }) -> Snapshot {
        let action = RouteAction.forward(ForwardAction(target: .cluster("c")))
        let routes = ["r", "s"].map { Route(name: $0, match: RouteMatch(path: .prefix("/\($0)")), action: action) }
        var snapshot = Snapshot(
            node: Node(mesh: "m", role: .virtualNode, name: "n"),
            listeners: [Listener(name: "l", address: SocketAddress(.loopbackV4, 1), direction: .inbound, filterChains: [])],
            routeConfigurations: [RouteConfiguration(name: "rc", virtualHosts: [VirtualHost(name: "v", domains: ["v"], routes: routes)])],
            clusters: [Cluster(name: "c", discovery: .eds(serviceName: "c"))],
            loadAssignments: [ClusterLoadAssignment(clusterName: "c", localities: [])])
        change(&snapshot)
        return snapshot
    }

    @Test(
        "is one line",
        arguments: [
            (snapshot(), "nothing that serves changed"),
            (snapshot { $0.clusters.append(Cluster(name: "d", discovery: .originalDestination)) }, "+1 cluster"),
            (snapshot { $0.clusters = [] }, "-1 cluster"),
            (snapshot { $0.clusters[0].connectTimeout = .seconds(9) }, "~1 cluster"),
            (snapshot { $0.clusters[0].name = "d" }, "+1 cluster, -1 cluster"),
            (snapshot { $0.routeConfigurations[0].virtualHosts[0].routes.removeLast() }, "-1 route"),
            // Each of them is tried at another place than before.
            (snapshot { $0.routeConfigurations[0].virtualHosts[0].routes.reverse() }, "~2 routes"),
            (snapshot { $0.routeConfigurations[0].virtualHosts[0].domains = ["w"] }, "~2 routes"),
            (snapshot { $0.routeConfigurations = [] }, "-2 routes"),
            (snapshot { $0.loadAssignments[0].localities = [LocalityEndpoints(endpoints: [])] }, "~1 endpoint set"),
            (snapshot { $0.listeners[0].direction = .outbound }, "~1 listener"),
            (snapshot { $0.process.drainTime = .zero }, "process settings"),
            (snapshot { $0.process.workers = 2 }, "the number of workers at the next start"),
            (
                snapshot {
                    $0.process.adminAddress.port = 1
                    $0.clusters = []
                }, "-1 cluster, the admin address at the next start"
            ),
        ])
    func line(next: Snapshot, expected: String) {
        #expect("\(SnapshotChange(from: Self.snapshot(), to: next))" == expected)
    }

    @Test("Counts have their plural", arguments: [(0, "0 routes"), (1, "1 route"), (2, "2 routes")])
    func plural(count: Int, expected: String) {
        #expect(counted(count, "route") == expected)
        #expect(counted(2, "entry") == "2 entries")
    }
}

import Balancing
import Base
import ProxyConfig
import Reactor
import Resilience
import Resolver
import Testing

@testable import Proxy

/// Names come from /etc/hosts (localhost); every other one fails, for its name server is a port where nobody is.
private func offline() -> ResolverOptions {
    var options = ResolverOptions()
    options.servers = [SocketAddress(.loopbackV4, 1)]
    options.searchDomains = []
    options.timeout = .milliseconds(50)
    options.tries = 1
    return options
}

private func runtime(_ cluster: Cluster, hosts: [HostSeed] = []) -> RuntimeCluster {
    let now = Instant(nanoseconds: 0)
    let detector = OutlierDetector(cluster: cluster.name, configuration: nil, events: OutlierEventLog(), now: now, seed: 1)
    return RuntimeCluster(
        configuration: cluster, tls: nil, detector: detector, balancing: BalancingRules(cluster, locality: Locality()),
        hosts: HostSeed.hosts(hosts, detector: detector, isResolved: !hosts.isEmpty, now: now))
}

private func snapshot(_ clusters: [RuntimeCluster], admin: SocketAddress = SocketAddress(.loopbackV4, 9901)) -> RuntimeSnapshot {
    let configuration = Snapshot(
        node: Node(mesh: "m", role: .virtualNode, name: "n"), process: ProcessSettings(adminAddress: admin),
        clusters: clusters.map(\.configuration))
    return RuntimeSnapshot(version: "1", configuration: configuration, listeners: [], clusters: clusters)
}

private func dns(_ name: String, _ endpoints: [Endpoint], family: DNSOptions.Family = .v4Only) -> Cluster {
    let locality = LocalityEndpoints(locality: Locality(zone: "a"), priority: 1, endpoints: endpoints)
    let assignment = ClusterLoadAssignment(clusterName: name, localities: [locality])
    return Cluster(name: name, discovery: .dns(assignment, DNSOptions(family: family)))
}

/// Runs the loop until `condition`, for at most 1,000 turns of 10 ms.
private func turn(_ loop: EventLoop, until condition: () -> Bool) {
    for _ in 0..<1000 where !condition() { loop.turn(maximumWait: .milliseconds(10)) }
    #expect(condition(), "still nothing after 1,000 turns")
}

@Suite struct DNSDiscoveryTests {
    @Test("Every address of a name is an endpoint with the port, weight, priority and locality of its entry, behind the given addresses")
    func endpoints() {
        let loop = EventLoop()
        var announced: [String] = []
        let discovery = DNSDiscovery(loop: loop, options: offline()) { announced.append($0.name) }
        let cluster = runtime(
            dns("c", [Endpoint(host: .name("localhost"), port: 80, weight: 7), Endpoint(host: .ip(IPAddress("10.0.0.1")!), port: 81)]))
        discovery.follow(snapshot([cluster]))
        #expect(cluster.hosts.hosts.map(\.label) == ["10.0.0.1:81"], "what is given serves before the answer")
        turn(loop) { announced.count == 2 }
        #expect(cluster.hosts.hosts.map(\.label) == ["10.0.0.1:81", "127.0.0.1:80"])
        let host = cluster.hosts.hosts[1]
        #expect(host.hostname == "localhost" && host.weight == 7 && host.priority == 1 && host.locality.zone == "a")
        #expect(cluster.hosts.isResolved)
    }

    @Test("Clusters that share a name share its lookup, and the same answer announces nothing")
    func shared() {
        let loop = EventLoop()
        var announced: [String] = []
        let discovery = DNSDiscovery(loop: loop, options: offline()) { announced.append($0.name) }
        let clusters = ["a", "b"].map { runtime(dns($0, [Endpoint(host: .name("localhost"), port: 80)])) }
        discovery.follow(snapshot(clusters))
        turn(loop) { announced.count == 2 }
        #expect(announced.sorted() == ["a", "b"])
        #expect(discovery.board.report.map(\.lookups) == [1])
        discovery.follow(snapshot(clusters))
        #expect(announced.count == 2)
    }

    @Test("A name that fails leaves what the previous snapshot had of it, and is told as failed")
    func carriedOver() {
        let loop = EventLoop()
        let discovery = DNSDiscovery(loop: loop, options: offline()) { _ in Issue.record("announced without a change") }
        let seed = HostSeed(
            address: SocketAddress(IPAddress("10.0.0.9")!, 80), hostname: "gone.test", weight: 1, priority: 1, locality: Locality(zone: "a")
        )
        let cluster = runtime(dns("c", [Endpoint(host: .name("gone.test"), port: 80)]), hosts: [seed])
        discovery.follow(snapshot([cluster]))
        turn(loop) { discovery.board.report.first?.state == .failed }
        #expect(cluster.hosts.hosts.map(\.label) == ["10.0.0.9:80"])
        #expect(discovery.board.report.first?.failures == 1)
    }

    @Test("A name that left the configuration is forgotten, with its lookup under way")
    func left() {
        let loop = EventLoop()
        let discovery = DNSDiscovery(loop: loop, options: offline()) { _ in Issue.record("an answer for a name that left") }
        discovery.follow(snapshot([runtime(dns("c", [Endpoint(host: .name("localhost"), port: 80)]))]))
        discovery.follow(snapshot([]))
        for _ in 0..<5 { loop.turn(maximumWait: .milliseconds(10)) }
        #expect(discovery.board.report.isEmpty)
    }
}

@Suite struct DestinationTests {
    @Test(
        "The authority of a request says where it goes",
        arguments: [
            ("web.test", "web.test:80"), ("Web.Test:8080", "web.test:8080"), ("10.0.0.1", "10.0.0.1:80"), ("10.0.0.1:81", "10.0.0.1:81"),
            ("[fd00::1]", "[fd00::1]:80"), ("[fd00::1]:81", "[fd00::1]:81"), ("[::ffff:10.0.0.1]:81", "10.0.0.1:81"),
            ("", nil), (":80", nil), ("web.test:", nil), ("web.test:0", nil), ("web.test:65536", nil), ("web.test:+1", nil),
            ("user@web.test", nil), ("10.0.0", nil), ("10.0.0.256", nil), ("fd00::1", nil), ("[fd00::1", nil), ("[10.0.0.1]", nil),
            ("[fd00::1]x", nil), ("a b", nil),
        ] as [(String, String?)])
    func parse(authority: String, expected: String?) {
        #expect(Destination(authority: authority)?.description == expected)
    }
}

@Suite struct OriginalDestinationTests {
    /// What workers and clusters are told, in order.
    private final class Bench {
        let loop = EventLoop()
        let cluster = runtime(Cluster(name: "out", discovery: .originalDestination))
        var told: [String] = []
        private(set) var destinations: OriginalDestinations!

        init(admin: SocketAddress = SocketAddress(.loopbackV4, 9901)) {
            let discovery = DNSDiscovery(loop: loop, options: offline()) { _ in }
            destinations = OriginalDestinations(loop: loop, discovery: discovery, limit: 3) { [unowned self] cluster in
                told.append("hosts \(cluster.hosts.hosts.map(\.label).joined(separator: ","))")
            } reply: { [unowned self] worker, _, destination, outcome in
                switch outcome {
                case .success(let addresses): told.append("\(worker) \(destination) \(addresses.map(\.description).joined(separator: ","))")
                case .failure(let error): told.append("\(worker) \(destination) \(error.details)")
                }
            }
            destinations.follow(snapshot([cluster], admin: admin))
        }

        func want(_ authority: String, worker: Int = 0) {
            destinations.wanted(Destination(authority: authority)!, cluster: "out", worker: worker)
        }
    }

    @Test("An address is an endpoint at once, and every worker knows it before the one that asked is answered")
    func address() {
        let bench = Bench()
        bench.want("10.0.0.1:81")
        bench.want("10.0.0.1:81", worker: 1)
        #expect(bench.told == ["hosts 10.0.0.1:81", "0 10.0.0.1:81 10.0.0.1:81", "1 10.0.0.1:81 10.0.0.1:81"])
    }

    @Test("A name is looked up once for all who wait")
    func name() {
        let bench = Bench()
        bench.want("localhost:81")
        bench.want("localhost:81", worker: 1)
        turn(bench.loop) { bench.told.count == 3 }
        #expect(bench.told[0] == "hosts 127.0.0.1:81")
        #expect(Set(bench.told[1...]) == ["0 localhost:81 127.0.0.1:81", "1 localhost:81 127.0.0.1:81"])
    }

    @Test("A name without an answer is told as such, and leaves nothing behind")
    func failure() {
        let bench = Bench()
        bench.want("gone.test")
        turn(bench.loop) { !bench.told.isEmpty }
        #expect(bench.told == ["0 gone.test:80 dns_resolution_failure"])
    }

    @Test(
        "This proxy is no destination, under none of its names",
        arguments: ["127.0.0.1:9901", "localhost:9901", "0.0.0.0:9901", "[::]:9901", "[::1]:9901", "[::ffff:127.0.0.1]:9901"])
    func ownListener(authority: String) {
        let bench = Bench(admin: SocketAddress(.anyV4, 9901))
        bench.want(authority)
        turn(bench.loop) { !bench.told.isEmpty }
        #expect(bench.told.count == 1 && bench.told[0].hasSuffix(" original_destination_is_this_proxy"))
    }

    @Test("More destinations than the limit are refused while all of them are in use")
    func limit() {
        let bench = Bench()
        for index in 1...3 { bench.want("10.0.0.\(index)") }
        bench.told = []
        bench.want("10.9.9.9")
        #expect(bench.told == ["0 10.9.9.9:80 original_destination_overflow"])
    }

    @Test("A snapshot that makes a destination this proxy's own takes it away")
    func becomesOwn() {
        let bench = Bench()
        bench.want("127.0.0.1:8081")
        bench.told = []
        bench.destinations.follow(snapshot([bench.cluster], admin: SocketAddress(.loopbackV4, 8081)))
        #expect(bench.told == ["hosts "])
    }
}

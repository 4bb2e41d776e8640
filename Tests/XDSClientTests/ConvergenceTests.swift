import Base
import ProxyConfig
import Testing
import XDSClient
import XDSWire

/// A control plane that keeps the protocol, in any order that the protocol allows, and at times sends what is wrong.
private struct ScriptedServer {
    /// What it wants, by type.
    var clusters: [Cluster] = []
    var endpoints: [ClusterLoadAssignment] = []
    var listeners: [Listener] = []
    var routes: [RouteConfiguration] = []
    private var names: [DiscoveredType: Set<String>] = [:]
    private var nonces: [DiscoveredType: String] = [:]
    private var count = 0
    /// Types that something is to be sent of.
    private(set) var due: Set<DiscoveredType> = []
    var violations: [String] = []

    static let types: [DiscoveredType] = [.cluster, .clusterLoadAssignment, .listener, .routeConfiguration]

    mutating func streamOpened() {
        names = [:]
        nonces = [:]
        due = []
    }

    mutating func take(_ request: DiscoveryRequest) {
        guard let type = DiscoveredType(typeURL: request.typeURL), Self.types.contains(type) else { return }
        if request.responseNonce.isEmpty {
            if names[type] != nil, nonces[type] != nil { violations.append("\(type): no nonce after a response") }
            due.insert(type)
        } else if request.responseNonce != nonces[type] {
            violations.append("\(type): nonce \(request.responseNonce), which is not the last")
        }
        let asked = Set(request.resourceNames)
        if request.resourceNames != request.resourceNames.sorted() { violations.append("\(type): names out of order") }
        if !asked.subtracting(names[type] ?? []).isEmpty { due.insert(type) }
        names[type] = asked
    }

    mutating func changed() {
        due.formUnion(names.keys)
    }

    /// A response of the type, perhaps partial or spoilt.
    mutating func response(_ type: DiscoveredType, _ random: inout SeededRandom, isBad: Bool) -> DiscoveryResponse {
        due.remove(type)
        count += 1
        let asked = names[type] ?? []
        var response: DiscoveryResponse =
            switch type {
            case .cluster: DiscoveryResponse(clusters.shuffled(using: &random))
            case .listener: DiscoveryResponse(listeners.shuffled(using: &random))
            case .clusterLoadAssignment: DiscoveryResponse(endpoints.filter { asked.contains($0.clusterName) })
            default: DiscoveryResponse(routes.filter { asked.contains($0.name) })
            }
        if isBad {
            // A string field of length 2 with one byte behind it.
            response.resources.append(AnyMessage(typeURL: response.typeURL, value: [0x0a, 2, 0x61]))
            due.insert(type)
        }
        response.nonce = "n\(count)"
        nonces[type] = response.nonce
        return response
    }

    /// A mesh of a few services, all references resolved.
    mutating func choose(_ random: inout SeededRandom) {
        let services = (0..<6).filter { _ in random.below(2) == 0 }.map { "s\($0)" }
        clusters = services.map { Mesh.cluster($0) }
        endpoints = services.map { Mesh.endpoints($0, UInt16(1 + random.below(3))) }
        routes = []
        listeners = []
        guard !services.isEmpty else { return }
        for port in 0..<3 as Range<UInt16> where random.below(2) == 0 {
            listeners.append(Mesh.listener("l\(port)", 80 + port, routes: "r\(port)"))
            routes.append(Mesh.routes("r\(port)", to: services[random.below(services.count)]))
        }
    }
}

@Suite("An ADS stream comes to an end that does not depend on the way")
struct ConvergenceTests {
    @Test("any order, partial updates, garbage, a slow owner and lost streams end with what the control plane wants, whole at every step")
    func converges() {
        for seed in 1...100 as ClosedRange<UInt64> {
            var random = SeededRandom(seed: seed)
            var server = ScriptedServer()
            var harness = Harness()
            server.choose(&random)
            harness.open()
            for step in 0..<120 {
                for request in harness.takeSent() { server.take(request) }
                harness.isBusy = random.below(4) == 0
                if !harness.isBusy { harness.answerOffer() }
                for request in harness.takeSent() { server.take(request) }
                switch random.below(20) {
                case 0:
                    server.choose(&random)
                    server.changed()
                case 1:
                    harness.close()
                    server.streamOpened()
                    harness.sent = []
                    harness.wait(.milliseconds(200))
                    harness.open()
                case 2: harness.wait(.milliseconds(500))
                default:
                    guard let type = server.due.sorted(by: { $0.rawValue < $1.rawValue }).randomElement(using: &random) else { break }
                    harness.receive(server.response(type, &random, isBad: step < 100 && random.below(5) == 0))
                }
                for request in harness.sent { server.take(request) }
                harness.sent = []
            }
            settle(&harness, &server, &random)
            #expect(server.violations == [], "seed \(seed)")
            #expect(harness.ends == [], "seed \(seed)")
            let running = harness.running
            #expect(Set(running?.clusters ?? []) == Set(server.clusters), "seed \(seed)")
            #expect(Set(running?.listeners ?? []) == Set(server.listeners), "seed \(seed)")
            #expect(Set(running?.routeConfigurations ?? []) == Set(server.routes), "seed \(seed)")
            #expect(Set(running?.loadAssignments ?? []) == Set(server.endpoints), "seed \(seed)")
            for snapshot in harness.history { #expect(dangling(snapshot) == [], "seed \(seed)") }
        }
    }

    /// Nothing changes any more, and all that is due is sent.
    private func settle(_ harness: inout Harness, _ server: inout ScriptedServer, _ random: inout SeededRandom) {
        harness.isBusy = false
        server.changed()
        for _ in 0..<100 {
            harness.answerOffer()
            for request in harness.takeSent() { server.take(request) }
            guard let type = server.due.min(by: { $0.rawValue < $1.rawValue }) else { return }
            harness.receive(server.response(type, &random, isBad: false))
        }
        Issue.record("it does not come to rest")
    }

    /// References that lead nowhere: nothing took 15 seconds.
    private func dangling(_ snapshot: Snapshot) -> [String] {
        do throws(WireErrors) {
            _ = try Snapshot(node: snapshot.node, responses: snapshot.discoveryResponses())
            return []
        } catch {
            return error.errors.map(\.description)
        }
    }

    @Test("no bytes make it fail, and nothing but a DiscoveryResponse goes on")
    func garbage() {
        for seed in 1...500 as ClosedRange<UInt64> {
            var random = SeededRandom(seed: seed)
            var harness = Harness()
            harness.open()
            var bytes = DiscoveryResponse([Mesh.cluster("a"), Mesh.cluster("b")]).encoded()
            for _ in 0...random.below(6) {
                switch random.below(3) {
                case 0: bytes[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next())
                case 1: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: random.below(bytes.count))
                default: if bytes.count > 2 { bytes.removeLast(random.below(bytes.count - 1)) }
                }
            }
            harness.perform(harness.client.receive(bytes, now: harness.now))
            #expect(harness.running == nil, "seed \(seed)")
        }
    }
}

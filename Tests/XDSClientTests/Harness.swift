import Base
import ProxyConfig
import XDSClient
import XDSWire

/// An `ADSClient` with its owner: it keeps what is sent, and takes or refuses what is offered.
struct Harness {
    var client: ADSClient
    var now = Instant(nanoseconds: 0)
    /// What was sent and not looked at yet.
    var sent: [DiscoveryRequest] = []
    var sentDelta: [DeltaDiscoveryRequest] = []
    var refusals: [ADSClient.Refusal] = []
    var told: [String] = []
    var ends: [String] = []
    var silences = 0
    /// Runs now.
    var running: Snapshot?
    /// All that ran, in order.
    var history: [Snapshot] = []
    /// Says what is wrong with an offer; empty = it is taken.
    var judge: (ADSClient.Offer) -> [ADSClient.Problem] = { _ in [] }
    /// The owner is busy: offers wait until `answerOffer`.
    var isBusy = false
    var waiting: ADSClient.Offer?
    private var nonces = 0

    static let node = Node(mesh: "test", role: .virtualNode, name: "node")

    init(ownSecrets: Set<String> = []) {
        client = ADSClient(
            node: ClientNode(Self.node, instance: "a"), identity: Self.node, defaults: ProcessSettings(), ownSecrets: ownSecrets)
    }

    mutating func perform(_ actions: [ADSClient.Action]) {
        for action in actions {
            switch action {
            case .send(let request): sent.append(request)
            case .sendDelta(let request): sentDelta.append(request)
            case .offer(let offer):
                waiting = offer
                if !isBusy { answerOffer() }
            case .refused(let refusal): refusals.append(refusal)
            case .endStream(let reason): ends.append(reason)
            case .tell(let text): told.append(text)
            case .silence: silences += 1
            }
        }
    }

    mutating func answerOffer() {
        guard let offer = waiting else { return }
        waiting = nil
        let problems = judge(offer)
        if problems.isEmpty {
            running = offer.snapshot
            history.append(offer.snapshot)
            perform(client.offerTaken(now: now))
        } else {
            perform(client.offerRefused(problems, now: now))
        }
    }

    mutating func open() {
        perform(client.streamOpened(now: now))
    }

    mutating func close() {
        client.streamClosed()
    }

    mutating func receive(_ response: DiscoveryResponse) {
        perform(client.receive(response.encoded(), now: now))
    }

    /// Sends a response with a nonce of its own, which it returns.
    @discardableResult
    mutating func send<Resource: WireResource>(_ resources: [Resource], version: String? = nil) -> String {
        var response = DiscoveryResponse(resources)
        if let version { response.versionInfo = version }
        nonces += 1
        response.nonce = "n\(nonces)"
        receive(response)
        return response.nonce
    }

    /// Time passes; deadlines on the way are met.
    mutating func wait(_ span: Nanoseconds) {
        let end = now + span
        while client.deadline <= end {
            now = max(now, client.deadline)
            perform(client.deadlineReached(now: now))
        }
        now = end
    }

    /// What was sent since the last look.
    mutating func takeSent() -> [DiscoveryRequest] {
        defer { sent = [] }
        return sent
    }
}

extension DiscoveryRequest {
    /// `Cluster ACK v1 n1`, `Cluster NACK v0 n2`, `Cluster [a b]` (a question without nonce).
    var words: String {
        let type = DiscoveredType(typeURL: typeURL)?.name ?? typeURL
        let names = resourceNames.isEmpty ? "" : " [\(resourceNames.joined(separator: " "))]"
        guard !responseNonce.isEmpty else { return "\(type)\(versionInfo.isEmpty ? "" : " \(versionInfo)")\(names)" }
        return "\(type) \(errorDetail == nil ? "ACK" : "NACK") \(versionInfo.isEmpty ? "-" : versionInfo) \(responseNonce)\(names)"
    }
}

/// A mesh in few words: listener `l` routes by `r` to cluster `c`, whose endpoints are `c`.
enum Mesh {
    static func cluster(_ name: String, secret: String? = nil) -> Cluster {
        Cluster(
            name: name, discovery: .eds(serviceName: name),
            tls: secret.map { UpstreamTLS(validation: TLSValidation(trust: .sds(name: $0)), alpn: ["http/1.1"]) })
    }

    static func endpoints(_ name: String, _ ports: UInt16...) -> ClusterLoadAssignment {
        ClusterLoadAssignment(
            clusterName: name, localities: [LocalityEndpoints(endpoints: ports.map { Endpoint(host: .ip(.loopbackV4), port: $0) })])
    }

    static func listener(_ name: String, _ port: UInt16, routes: String) -> Listener {
        Listener(
            name: name, address: SocketAddress(.loopbackV4, port), direction: .outbound,
            filterChains: [
                FilterChain(
                    name: name, filter: .http(HTTPConnectionManager(statPrefix: "egress", routeConfigurationName: routes)))
            ])
    }

    static func routes(_ name: String, to cluster: String) -> RouteConfiguration {
        RouteConfiguration(
            name: name,
            virtualHosts: [
                VirtualHost(
                    name: "all", domains: ["*"],
                    routes: [
                        Route(
                            name: "all", match: RouteMatch(path: .prefix("/")),
                            action: .forward(ForwardAction(target: .cluster(cluster))))
                    ])
            ])
    }

    static func trust(_ name: String, _ text: String = "PEM") -> Secret {
        Secret(name: name, content: .trust(authorities: Array(text.utf8), subjectAlternativeNames: []))
    }
}

import Base
import ProxyConfig
import Reactor
import Resolver

/// The endpoints of ORIGINAL_DST clusters: made when a worker asks for a destination, dropped when nobody asked for a while.
///
/// One table for all workers, so a destination is looked up once and its endpoints have one health. Confined to the supervisor's thread.
final class OriginalDestinations {
    typealias Outcome = Result<[SocketAddress], DestinationError>

    private final class Entry {
        var addresses: [IPAddress] = []
        /// When the addresses are to be looked up again, at the next use.
        var expires = Instant.never
        var lastUsed: Instant
        var query: ResolverQuery?
        /// The workers that wait.
        var askers: Set<Int> = []

        init(lastUsed: Instant) {
            self.lastUsed = lastUsed
        }
    }

    private final class Members {
        var shared: RuntimeCluster
        var entries: [Destination: Entry] = [:]

        init(_ shared: RuntimeCluster) {
            self.shared = shared
        }
    }

    /// In use at the same time, for each cluster. Beyond it the one that was idle longest makes room, or the request is refused.
    static let limit = 1000
    /// Of one name: one to use and some to spread over or to fall back to.
    static let addressLimit = 4
    static let idleTime = Nanoseconds.seconds(300)
    /// Workers tell every `DestinationTable.renewal` that they use a destination: idle for longer, it may make room.
    private static let leastIdle = Nanoseconds.seconds(60)
    private static let shortestLife = Nanoseconds.seconds(5)

    private let loop: EventLoop
    private let discovery: DNSDiscovery
    private let limit: Int
    private let announce: (RuntimeCluster) -> Void
    private let reply: (_ worker: Int, _ cluster: String, Destination, Outcome) -> Void
    private var clusters: [String: Members] = [:]
    /// What this process listens on.
    private var own: [SocketAddress] = []
    private var sweepTimer: LoopTimer!

    init(
        loop: EventLoop, discovery: DNSDiscovery, limit: Int = limit, announce: @escaping (RuntimeCluster) -> Void,
        reply: @escaping (_ worker: Int, _ cluster: String, Destination, Outcome) -> Void
    ) {
        self.loop = loop
        self.discovery = discovery
        self.limit = limit
        self.announce = announce
        self.reply = reply
        sweepTimer = LoopTimer { [unowned self] now in sweep(now) }
    }

    /// Goes over to another snapshot. Clusters that stay keep their endpoints, but for those that are this proxy's listeners now.
    func follow(_ snapshot: RuntimeSnapshot) {
        own = snapshot.listeners.map(\.configuration.address) + [snapshot.configuration.process.adminAddress]
        var next: [String: Members] = [:]
        for shared in snapshot.clusters where shared.configuration.discovery == .originalDestination {
            let members = clusters.removeValue(forKey: shared.name) ?? Members(shared)
            members.shared = shared
            for (destination, entry) in members.entries { entry.addresses = entry.addresses.filter { !isOwn($0, destination.port) } }
            next[shared.name] = members
        }
        for members in clusters.values {
            for entry in members.entries.values { entry.query?.cancel() }
        }
        clusters = next
        for members in clusters.values { update(members) }
    }

    /// A worker has a request for `destination`, or tells that it still uses it. Answered once, now or later; not at all when the cluster
    /// is gone.
    func wanted(_ destination: Destination, cluster: String, worker: Int) {
        guard let members = clusters[cluster] else { return }
        if let entry = members.entries[destination] {
            entry.lastUsed = loop.now
            if entry.addresses.isEmpty { entry.askers.insert(worker) } else { tell(worker, members, destination, entry) }
            if entry.query == nil, entry.addresses.isEmpty || entry.expires <= loop.now { lookUp(destination, entry, members) }
            return
        }
        guard members.entries.count < limit || makeRoom(in: members) else {
            return reply(worker, cluster, destination, .failure(.tooMany))
        }
        let entry = Entry(lastUsed: loop.now)
        entry.askers = [worker]
        members.entries[destination] = entry
        if members.entries.count == 1 { loop.setDeadline(sweepTimer, loop.now + Self.leastIdle) }
        lookUp(destination, entry, members)
    }

    private func lookUp(_ destination: Destination, _ entry: Entry, _ members: Members) {
        switch destination.host {
        case .ip(let ip): answered(.success(Answer(addresses: [ip], ttl: .zero)), destination, entry, members)
        case .name(let name):
            // A name with addresses of both versions is reached over IPv4: without a try nobody knows whether IPv6 leads anywhere here.
            entry.query = discovery.resolve(name, family: .v4Preferred) { [unowned self, unowned entry, unowned members] result in
                entry.query = nil
                answered(result, destination, entry, members)
            }
        }
    }

    private func answered(_ result: Result<Answer, ResolveError>, _ destination: Destination, _ entry: Entry, _ members: Members) {
        switch result {
        case .success(let answer):
            let known = entry.addresses
            let allowed = answer.addresses.filter { !isOwn($0, destination.port) }
            guard !allowed.isEmpty else { return drop(destination, entry, members, .ownListener) }
            entry.addresses = Array(allowed.prefix(Self.addressLimit))
            let life = min(max(answer.ttl ?? .zero, Self.shortestLife), NameRefresh.longestRefresh)
            if case .name = destination.host { entry.expires = loop.now + life }
            if entry.addresses != known { update(members) }
        case .failure(let error):
            guard !entry.addresses.isEmpty else { return drop(destination, entry, members, .unresolved(error)) }
            entry.expires = loop.now + Self.shortestLife  // Serve stale, as DNS clusters do.
        }
        for worker in entry.askers { tell(worker, members, destination, entry) }
        entry.askers = []
    }

    private func tell(_ worker: Int, _ members: Members, _ destination: Destination, _ entry: Entry) {
        reply(worker, members.shared.name, destination, .success(entry.addresses.map { SocketAddress($0, destination.port) }))
    }

    private func drop(_ destination: Destination, _ entry: Entry, _ members: Members, _ error: DestinationError) {
        members.entries[destination] = nil
        for worker in entry.askers { reply(worker, members.shared.name, destination, .failure(error)) }
        if !entry.addresses.isEmpty { update(members) }
    }

    /// A request that came back through our own listener would do so for ever.
    private func isOwn(_ ip: IPAddress, _ port: Port) -> Bool {
        for listener in own where listener.port == port {
            if listener.ip == ip { return true }
            guard listener.ip == .anyV4 || listener.ip == .v6(0, 0) else { continue }
            if ip.isLoopback || ip == .anyV4 || ip == .v6(0, 0) || Socket.localAddresses().contains(ip) { return true }
        }
        // The kernel takes the unspecified address for this machine.
        return (ip == .anyV4 || ip == .v6(0, 0)) && own.contains { $0.port == port }
    }

    private func makeRoom(in members: Members) -> Bool {
        guard let (destination, entry) = members.entries.min(by: { $0.value.lastUsed < $1.value.lastUsed }),
            entry.askers.isEmpty, entry.lastUsed + Self.leastIdle <= loop.now
        else { return false }
        entry.query?.cancel()
        members.entries[destination] = nil
        return true  // Announced together with what takes its place.
    }

    private func sweep(_ now: Instant) {
        for members in clusters.values {
            let before = members.entries.count
            members.entries = members.entries.filter { _, entry in
                let isUsed = entry.lastUsed + Self.idleTime > now || !entry.askers.isEmpty
                if !isUsed { entry.query?.cancel() }
                return isUsed
            }
            if members.entries.count != before { update(members) }
        }
        if clusters.values.contains(where: { !$0.entries.isEmpty }) { loop.setDeadline(sweepTimer, now + Self.leastIdle) }
    }

    private func update(_ members: Members) {
        var hostnames: [SocketAddress: String] = [:]
        for (destination, entry) in members.entries {
            let hostname = if case .name(let name) = destination.host { name } else { "" }
            for ip in entry.addresses {
                // Two names may share an address: one endpoint, called by the first of them.
                let address = SocketAddress(ip, destination.port)
                hostnames[address] = hostnames[address].map { min($0, hostname) } ?? hostname
            }
        }
        let seeds = hostnames.sorted { ($0.key.ip, $0.key.port) < ($1.key.ip, $1.key.port) }.map { address, hostname in
            HostSeed(address: address, hostname: hostname, weight: 1, priority: 0, locality: Locality())
        }
        let shared = members.shared
        guard shared.hosts.hosts.map(HostSeed.init) != seeds else { return }
        shared.hosts = HostSeed.hosts(seeds, detector: shared.detector, isResolved: true, now: loop.now)
        announce(shared)
    }
}

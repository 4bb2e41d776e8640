import Base
import ProxyConfig
import Reactor
import Resolver
import Telemetry

/// Keeps the endpoints of DNS clusters true: asks for every name of the current snapshot, and again and again as `NameRefresh` says.
///
/// A name that several clusters share is asked for once. An unchanged answer changes nothing. Confined to the supervisor's thread; only
/// `board` may be read from others.
final class DNSDiscovery {
    let board = DNSBoard()

    private let loop: EventLoop
    private let options: ResolverOptions
    private let announce: (RuntimeCluster) -> Void
    private let log = ProcessLog.standard
    private var resolver: Resolver?
    private var clusters: [DNSCluster] = []
    private var names: [DNSName.Key: DNSName] = [:]
    private var random: SeededRandom

    init(loop: EventLoop, options: ResolverOptions = ResolverOptions(), announce: @escaping (RuntimeCluster) -> Void) {
        self.loop = loop
        self.options = options
        self.announce = announce
        random = SeededRandom(seed: UInt64(bitPattern: Clock.realtime()))
    }

    /// Goes over to another snapshot. What is known of names that stay is used at once; names that left are asked for no more.
    func follow(_ snapshot: RuntimeSnapshot) {
        clusters = snapshot.clusters.compactMap(DNSCluster.init)
        var users: [DNSName.Key: [DNSCluster]] = [:]
        for cluster in clusters {
            for key in cluster.keys { users[key, default: []].append(cluster) }
        }
        for (key, name) in names where users[key] == nil { leave(name) }
        names = names.filter { users[$0.key] != nil }
        for (key, clusters) in users {
            let interval = clusters.map(\.refreshInterval).min() ?? NameRefresh.shortestRefresh
            if let name = names[key] {
                if let next = name.refresh.setRefreshInterval(interval, now: loop.now) { loop.setDeadline(name, next) }
            } else {
                names[key] = DNSName(key, refreshInterval: interval) { [unowned self] name in ask(name) }
            }
        }
        board.keep(names: Set(names.keys), clusters: Set(clusters.map(\.shared.name)))
        for cluster in clusters { update(cluster) }
        // In order, so that a start is the same each time.
        for name in names.values.sorted(by: { $0.key < $1.key }) where name.refresh.state == .pending && name.query == nil { ask(name) }
    }

    /// Looks up a name on behalf of somebody else, with the same name servers.
    @discardableResult
    func resolve(_ name: String, family: LookupFamily, completion: @escaping Resolver.Completion) -> ResolverQuery? {
        if resolver == nil {
            do {
                // Not before it is needed: many sidecars have only fixed endpoints.
                resolver = try Resolver(loop: loop, options: options)
            } catch {
                completion(.failure(error))
                return nil
            }
        }
        return resolver?.resolve(name, family: family, completion: completion)
    }

    private func leave(_ name: DNSName) {
        loop.cancelDeadline(name)
        name.query?.cancel()
        name.query = nil
    }

    private func ask(_ name: DNSName) {
        name.refresh.lookupBegan()
        name.query = resolve(name.key.name, family: name.key.family) { [unowned self, unowned name] result in
            name.query = nil
            answered(name, result)
        }
    }

    private func answered(_ name: DNSName, _ result: Result<Answer, ResolveError>) {
        let step = name.refresh.lookupEnded(result, now: loop.now, random: &random)
        loop.setDeadline(name, step.nextLookup)
        let users = clusters.filter { $0.keys.contains(name.key) }
        board.record(name, result, clusters: users.map(\.shared.name))
        tell(name, step)
        guard step.addressesChanged else { return }
        for cluster in users { update(cluster) }
    }

    /// One line for each change of state, none for its lasting.
    private func tell(_ name: DNSName, _ step: NameRefresh.Step) {
        let refresh = name.refresh
        let addresses = refresh.addresses.map(\.description)
        let shown = addresses.prefix(8).joined(separator: ",") + (addresses.count > 8 ? ",... (\(addresses.count))" : "")
        switch step.newState {
        case .stale:
            log.warning(
                "dns", "lookup failed, keeping the last answer",
                ["name": name.key.name, "error": refresh.lastError?.description ?? "-", "addresses": shown])
        case .failed:
            log.warning(
                "dns", "lookup failed, no endpoints until it succeeds",
                ["name": name.key.name, "error": refresh.lastError?.description ?? "-"])
        case .fresh: log.info("dns", "resolved", ["name": name.key.name, "addresses": shown])
        case .pending, nil:
            if step.addressesChanged { log.info("dns", "addresses changed", ["name": name.key.name, "addresses": shown]) }
        }
    }

    /// Gives a cluster the endpoints that its names stand for now, if they are others than before.
    private func update(_ cluster: DNSCluster) {
        let shared = cluster.shared
        let current = shared.hosts
        let seeds = cluster.seeds { key in
            if let refresh = names[key]?.refresh, refresh.answeredAt != nil { return refresh.addresses }
            // No answer yet: what the previous snapshot left of this name goes on until one comes.
            return Set(current.hosts.lazy.filter { $0.hostname == key.name }.map(\.address.ip)).sorted()
        }
        var seen: Set<SocketAddress> = []
        guard current.hosts.map(HostSeed.init) != seeds.filter({ seen.insert($0.address).inserted }) else { return }
        shared.hosts = HostSeed.hosts(seeds, detector: shared.detector, isResolved: !seeds.isEmpty, now: loop.now)
        announce(shared)
    }
}

/// A cluster whose endpoints have names.
private struct DNSCluster {
    let shared: RuntimeCluster
    let keys: Set<DNSName.Key>
    let refreshInterval: Nanoseconds
    private let localities: [LocalityEndpoints]
    private let family: LookupFamily

    init?(_ shared: RuntimeCluster) {
        guard case .dns(let assignment, let options) = shared.configuration.discovery, !assignment.names.isEmpty else { return nil }
        self.shared = shared
        let family = LookupFamily(options.family)
        keys = Set(assignment.names.map { DNSName.Key(name: $0, family: family) })
        refreshInterval = Nanoseconds(options.refreshInterval)
        localities = assignment.localities
        self.family = family
    }

    /// Those with given addresses first, as `SnapshotBuilder` has them.
    func seeds(addresses: (DNSName.Key) -> [IPAddress]) -> [HostSeed] {
        var seeds = HostSeed.fixed(in: localities)
        for locality in localities {
            for endpoint in locality.endpoints {
                guard case .name(let name) = endpoint.host else { continue }
                seeds += addresses(DNSName.Key(name: name, family: family)).map { ip in
                    HostSeed(
                        address: SocketAddress(ip, endpoint.port), hostname: name, weight: endpoint.weight, priority: locality.priority,
                        locality: locality.locality)
                }
            }
        }
        return seeds
    }
}

extension LookupFamily {
    init(_ family: DNSOptions.Family) {
        switch family {
        case .v4Only: self = .v4Only
        case .v6Only: self = .v6Only
        case .v4Preferred: self = .v4Preferred
        case .v6Preferred: self = .v6Preferred
        case .all: self = .all
        }
    }
}

/// A name that is followed, with the timer of its next lookup.
final class DNSName: Timed {
    struct Key: Hashable, Comparable, Sendable {
        var name: String
        var family: LookupFamily

        static func < (left: Key, right: Key) -> Bool {
            (left.name, left.family.rawValue) < (right.name, right.family.rawValue)
        }
    }

    let key: Key
    var refresh: NameRefresh
    var query: ResolverQuery?
    private let isDue: (DNSName) -> Void

    init(_ key: Key, refreshInterval: Nanoseconds, isDue: @escaping (DNSName) -> Void) {
        self.key = key
        refresh = NameRefresh(family: key.family, refreshInterval: refreshInterval)
        self.isDue = isDue
    }

    override func deadlineReached(now: Instant) {
        isDue(self)
    }
}

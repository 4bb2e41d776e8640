import Base
import Projections
import XDSWire

/// What the proxies of the mesh saw, summed over the fleet: totals since the start, and a window of the last minute for rates.
///
/// Reports are absolute, so sums are made of differences; a proxy that begins again counts from nothing.
struct TrafficWindow {
    /// Requests from the proxies of one node to a service.
    struct Edge: Hashable, Comparable {
        /// `VirtualNode/shop/cart` of the caller.
        var caller: ObjectKey
        /// The cluster's name where it stands for no node of the mesh.
        var service: String

        static func < (left: Edge, right: Edge) -> Bool { (left.caller, left.service) < (right.caller, right.service) }
    }

    struct Traffic {
        var requests: UInt64 = 0
        var errors: UInt64 = 0
        var latency = ReportedHistogram()

        mutating func add(_ other: Traffic) {
            requests &+= other.requests
            errors &+= other.errors
            latency.merge(other.latency)
        }
    }

    /// One slot of the window for each service.
    private struct Slot {
        var number: Int64
        var services: [String: Traffic] = [:]
        var ejections: UInt64 = 0
    }

    static let slotLength = Nanoseconds.seconds(5)
    static let slotCount = 12

    private(set) var totals: [Edge: Traffic] = [:]
    private(set) var ejections: UInt64 = 0
    private var slots: [Slot] = []

    /// - Parameters:
    ///   - earlier: the report before, of the same process.
    ///   - service: of a cluster's name.
    mutating func add(
        _ report: NodeReport, after earlier: NodeReport?, from caller: ObjectKey, now: Instant, service: (String) -> String?
    ) {
        let number = now.nanoseconds / Self.slotLength.count
        if slots.last?.number != number {
            slots.append(Slot(number: number))
            if slots.count > Self.slotCount { slots.removeFirst() }
        }
        let isSameProcess = earlier?.startedAt == report.startedAt
        var before: [String: ClusterReport] = [:]
        if let earlier, isSameProcess { for cluster in earlier.clusters { before[cluster.name] = cluster } }
        for cluster in report.clusters {
            // Its own application is not a call within the mesh.
            guard let name = service(cluster.name) else { continue }
            let traffic = cluster.traffic(since: before[cluster.name])
            guard traffic.requests > 0 || totals[Edge(caller: caller, service: name)] == nil else { continue }
            totals[Edge(caller: caller, service: name), default: Traffic()].add(traffic)
            slots[slots.count - 1].services[name, default: Traffic()].add(traffic)
        }
        let ejected = UInt64(report.outlierEvents.count { $0.action == "EJECT" })
        ejections &+= ejected
        slots[slots.count - 1].ejections &+= ejected
    }

    /// What the services had in the last `seconds`, and in how many seconds that really was.
    func recent(_ seconds: Int, now: Instant) -> (services: [String: Traffic], ejections: UInt64, seconds: Double) {
        let current = now.nanoseconds / Self.slotLength.count
        let length = Int64(max(1, min(Self.slotCount - 1, (seconds + 4) / 5)))
        // The slot that fills is not whole: it stands for what it has.
        var services: [String: Traffic] = [:]
        var ejections: UInt64 = 0
        for slot in slots where slot.number >= current - length {
            for (name, traffic) in slot.services { services[name, default: Traffic()].add(traffic) }
            ejections += slot.ejections
        }
        let partial = Double(now.nanoseconds - current * Self.slotLength.count) / 1e9
        return (services, ejections, Double(length) * 5 + partial)
    }
}

extension ClusterReport {
    func traffic(since earlier: ClusterReport?) -> TrafficWindow.Traffic {
        guard let earlier, requests >= earlier.requests else {
            return TrafficWindow.Traffic(requests: requests, errors: serverErrors &+ grpcErrors, latency: latency)
        }
        return TrafficWindow.Traffic(
            requests: requests - earlier.requests,
            errors: (serverErrors &- min(serverErrors, earlier.serverErrors)) &+ (grpcErrors &- min(grpcErrors, earlier.grpcErrors)),
            latency: latency.since(earlier.latency))
    }
}

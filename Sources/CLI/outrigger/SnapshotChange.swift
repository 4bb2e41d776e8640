import ProxyConfig

/// What differs between two snapshots, as one line: `+1 cluster, ~2 routes`.
struct SnapshotChange: CustomStringConvertible {
    private struct Count {
        var noun: String
        var added = 0
        var changed = 0
        var removed = 0
    }

    private var counts: [Count] = []
    private var settings: [String] = []

    init(from old: Snapshot, to new: Snapshot) {
        count("listener", old.listeners, new.listeners, by: \.name)
        count("route", Self.routes(old), Self.routes(new), by: \.key)
        count("cluster", old.clusters, new.clusters, by: \.name)
        count("endpoint set", old.loadAssignments, new.loadAssignments, by: \.clusterName)
        let (before, after) = (old.process, new.process)
        // What a running process cannot change about itself.
        if before.adminAddress != after.adminAddress { settings.append("the admin address at the next start") }
        if before.workers != after.workers { settings.append("the number of workers at the next start") }
        if before.drainTime != after.drainTime || before.exposeReplyDetails != after.exposeReplyDetails
            || before.outlierEventLogPath != after.outlierEventLogPath || before.overload != after.overload
        {
            settings.append("process settings")
        }
    }

    private struct PlacedRoute: Hashable {
        var key: String
        var domains: [String]
        var route: Route
        /// Which of the routes it is: their order matters.
        var position: Int
    }

    private static func routes(_ snapshot: Snapshot) -> [PlacedRoute] {
        var found: [PlacedRoute] = []
        var seen: [String: Int] = [:]
        for configuration in snapshot.routeConfigurations {
            for host in configuration.virtualHosts {
                for (position, route) in host.routes.enumerated() {
                    let name = "\(configuration.name)/\(host.name)/\(route.name)"
                    let occurrence = seen[name, default: 0]
                    seen[name] = occurrence + 1
                    found.append(PlacedRoute(key: "\(name)#\(occurrence)", domains: host.domains, route: route, position: position))
                }
            }
        }
        return found
    }

    private mutating func count<Element: Equatable>(_ noun: String, _ old: [Element], _ new: [Element], by name: (Element) -> String) {
        let before = Dictionary(old.map { (name($0), $0) }, uniquingKeysWith: { first, _ in first })
        let after = Dictionary(new.map { (name($0), $0) }, uniquingKeysWith: { first, _ in first })
        var count = Count(noun: noun)
        for (name, value) in after {
            if let earlier = before[name] { count.changed += earlier == value ? 0 : 1 } else { count.added += 1 }
        }
        count.removed = before.keys.count { after[$0] == nil }
        counts.append(count)
    }

    var description: String {
        var parts: [String] = []
        for count in counts {
            for (sign, number) in [("+", count.added), ("~", count.changed), ("-", count.removed)] where number > 0 {
                parts.append("\(sign)\(counted(number, count.noun))")
            }
        }
        parts += settings
        return parts.isEmpty ? "nothing that serves changed" : parts.joined(separator: ", ")
    }
}

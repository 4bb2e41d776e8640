import Base
import HTTP
import HTTP1
import ProxyConfig
import Reactor
import Routing
import Telemetry

/// A listener's HTTP configuration as one worker uses it: routes with their clusters and counters resolved.
///
/// Immutable but for counters. Streams hold the one they began with, so a new snapshot changes no request that is under way.
final class WorkerHTTPFilter {
    let shared: RuntimeHTTPFilter
    /// By ordinal of the route table.
    let clusters: [WorkerCluster?]
    let stats: DownstreamHTTPStats
    let unrouted: RouteStats
    let logs: AccessLogBatches
    let requestHeadersTimeout: Nanoseconds
    let idleTimeout: Nanoseconds
    private let worker: Worker
    private var routeStats: [RouteStats?]
    private let clusterCount: Int

    init(_ shared: RuntimeHTTPFilter, clusters: [WorkerCluster?], worker: Worker) {
        self.shared = shared
        self.clusters = clusters
        self.worker = worker
        let configuration = shared.configuration
        stats = worker.registry.http(statPrefix: configuration.statPrefix, worker: worker.index)
        unrouted = worker.registry.route(
            RouteLabels(side: shared.direction, virtualHost: "", route: "", target: ""), worker: worker.index)
        logs = AccessLogBatches(shared.accessLogs, worker: worker)
        requestHeadersTimeout = Nanoseconds(configuration.requestHeadersTimeout)
        idleTimeout = configuration.idleTimeout.map(Nanoseconds.init) ?? Nanoseconds(count: .max)
        clusterCount = clusters.count
        routeStats = Array(repeating: nil, count: shared.routes.routes.count * clusters.count)
    }

    var hasAccessLogs: Bool { !logs.isEmpty }

    /// The counters of a route and its target, made at the first request.
    func routeStats(route: CompiledRoute, cluster: Int) -> RouteStats {
        let place = route.index * clusterCount + cluster
        if let stats = routeStats[place] { return stats }
        let stats = worker.registry.route(
            RouteLabels(
                side: shared.direction, virtualHost: route.virtualHostName, route: route.name, target: shared.routes.clusterNames[cluster]),
            worker: worker.index)
        routeStats[place] = stats
        return stats
    }

    /// Whether the request's Upgrade names a protocol that may be switched to.
    func allowsUpgrade(_ head: Head) -> Bool {
        guard let field = head.first(.upgrade) else { return false }
        let value = head.bytes[field.value]
        return shared.upgradeTypes.contains { type in
            type.count == value.count && zip(type, value).allSatisfy { $0 == ($1 &- 0x41 < 26 ? $1 | 0x20 : $1) }
        }
    }

    /// Takes away what the caller must not say of itself, and adds what the next hop expects (attack case T2).
    ///
    /// At the mesh's edge nothing about the way here is believed. Inside, the fields that the hop before wrote are kept, but for the one
    /// that claims a verified certificate: without TLS nobody verified it.
    func sanitize(_ head: Head, from connection: DownstreamConnection, random: inout SeededRandom) {
        let isEdge = shared.configuration.isEdge
        var hasRequestID = false
        var hasForwardedProto = false
        var mustStrip = false
        for field in head.fields {
            switch field.known {
            case .requestID: hasRequestID = true
            case .forwardedProto: hasForwardedProto = true
            case .forwardedClientCert, .outriggerDetails: mustStrip = true
            default: break
            }
        }
        if isEdge || mustStrip {
            head.fields.removeAll { field in
                switch field.known {
                case .forwardedClientCert, .outriggerDetails: true
                case .forwardedFor, .forwardedHost, .forwarded, .forwardedProto, .requestID, .attemptCount, .envoyOriginalPath,
                    .envoyOverloaded, .expectedTimeout, .upstreamServiceTime:
                    isEdge
                case .other: isEdge && head.hasProxyPrefix(field)
                default: false
                }
            }
            if isEdge {
                hasRequestID = false
                hasForwardedProto = false
            }
        }
        if isEdge { head.append(name: "x-forwarded-for", value: connection.peerText, known: .forwardedFor) }
        if !hasForwardedProto {
            head.append(name: "x-forwarded-proto", value: connection.tls == nil ? "http".utf8 : "https".utf8, known: .forwardedProto)
        }
        if case .sanitizeSet(let details) = shared.configuration.forwardClientCertificate,
            let element = connection.certificateElement(details)
        {
            head.append(name: "x-forwarded-client-cert", value: element, known: .forwardedClientCert)
        }
        if !hasRequestID { head.appendRequestID(&random) }
    }
}

/// The lines of one turn of the loop for a listener's access logs. Handed to the log's own thread when the turn ends, so that no
/// request waits for a disk.
final class AccessLogBatches {
    private final class Batch {
        let log: RuntimeAccessLog
        var lines = ByteBuffer()

        init(_ log: RuntimeAccessLog) {
            self.log = log
        }
    }

    private let batches: [Batch]
    @safe private unowned(unsafe) let worker: Worker
    private var isWaiting = false

    init(_ logs: [RuntimeAccessLog], worker: Worker) {
        batches = logs.map(Batch.init)
        self.worker = worker
    }

    var isEmpty: Bool { batches.isEmpty }

    func append(_ record: borrowing AccessRecord) {
        for batch in batches { batch.log.format.render(record, into: &batch.lines) }
        guard !isWaiting else { return }
        isWaiting = true
        worker.submitAtTurnEnd(self)
    }

    func submit() {
        isWaiting = false
        for batch in batches where !batch.lines.isEmpty { batch.log.file.submit(&batch.lines) }
    }
}

extension Head {
    /// `x-envoy-` or `x-outrigger-`, in any case.
    fileprivate func hasProxyPrefix(_ field: Field) -> Bool {
        let name = field.name
        return name.count > 8 && equals(name.lowerBound..<name.lowerBound + 8, "x-envoy-")
            || name.count > 12 && equals(name.lowerBound..<name.lowerBound + 12, "x-outrigger-")
    }

    /// A random UUID (version 4), as Envoy makes them.
    fileprivate func appendRequestID(_ random: inout SeededRandom) {
        let high = random.next() & 0xffff_ffff_ffff_0fff | 0x4000
        let low = random.next() & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000
        let template: StaticString = "x-request-id00000000-0000-0000-0000-000000000000"
        let start = bytes.count
        unsafe bytes.append(contentsOf: UnsafeBufferPointer(start: template.utf8Start, count: template.utf8CodeUnitCount))
        let middle = start + 12
        unsafe bytes.withUnsafeMutableBytes { bytes in
            var bits = high
            for group in 0..<8 {
                if group == 4 { bits = low }
                let place = group * 4 + (group < 2 ? 0 : group < 6 ? group - 1 : 4)
                unsafe bytes.storeBytes(
                    of: Self.hexadecimal(UInt32(truncatingIfNeeded: bits >> 48)), toByteOffset: middle + place, as: UInt32.self)
                bits <<= 16
            }
        }
        fields.append(Field(name: start..<middle, value: middle..<bytes.count, known: .requestID))
    }

    /// The four digits of a 16-bit number, the first in the lowest byte.
    @inline(__always)
    private static func hexadecimal(_ number: UInt32) -> UInt32 {
        let digits = number >> 12 | (number >> 8 & 15) << 8 | (number >> 4 & 15) << 16 | (number & 15) << 24
        let letters = (digits &+ 0x0606_0606) >> 4 & 0x0101_0101
        return digits &+ 0x3030_3030 &+ letters &* 0x27
    }

    /// Sets a field of this known name to a decimal number, in its place or at the end.
    func setDecimal(_ number: Int64, name: StaticString, known: KnownField) {
        if contains(known) { fields.removeAll { $0.known == known } }
        let start = bytes.count
        unsafe bytes.append(contentsOf: UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
        let middle = bytes.count
        let value: UInt64 = number > 0 ? UInt64(number) : 0
        // From the first digit on: turning a slice round would copy the whole head.
        var place: UInt64 = 1
        while value / place > 9 { place *= 10 }
        while place > 0 {
            bytes.append(0x30 + UInt8(value / place % 10))
            place /= 10
        }
        fields.append(Field(name: start..<middle, value: middle..<bytes.count, known: known))
    }
}

import Base
import ProxyConfig
import Testing

@testable import XDSWire

@Suite struct NodeReportTests {
    @Test("a report that is encoded decodes to itself")
    func roundTrip() throws {
        for seed in UInt64(0)..<200 {
            var random = SeededRandom(seed: seed)
            let report = NodeReport.random(&random)
            #expect(try NodeReport(decoding: report.encoded()) == report, "seed \(seed)")
        }
        for interval in [0, 5000, UInt64.max] {
            #expect(try ReportReply(decoding: ReportReply(interval: interval).encoded()).interval == interval)
        }
    }

    @Test("fields of newer proxies are ignored")
    func unknownFields() throws {
        var random = SeededRandom(seed: 1)
        let report = NodeReport.random(&random)
        var writer = ProtobufWriter()
        writer.varint(9001, 1)
        writer.bytes(9002, [1, 2, 3])
        #expect(try NodeReport(decoding: writer.bytes + report.encoded()) == report)
    }

    @Test("any bytes give a report or errors with paths, never a trap")
    func flips() {
        var random = SeededRandom(seed: 2)
        var refused = 0
        for _ in 0..<400 {
            var bytes = NodeReport.random(&random).encoded()
            for _ in 0..<1 + random.below(6) { bytes[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next()) }
            do throws(WireErrors) {
                _ = try NodeReport(decoding: bytes)
            } catch {
                refused += 1
                #expect(!error.errors.isEmpty)
            }
        }
        #expect(refused > 50)
    }

    @Test("what is malformed or too large is refused with its place")
    func refused() {
        func cluster(_ write: (inout MessageWriter<ReportedHistogram.Fields>) -> Void) -> [UInt8] {
            message(NodeReport.Fields.self) {
                $0.message(.clusters, ClusterReport.Fields.self) {
                    $0.string(.name, "c")
                    $0.message(.latency, ReportedHistogram.Fields.self, write)
                }
            }
        }
        let cases: [([UInt8], String)] = [
            (message(NodeReport.Fields.self) { $0.number(.state, 3) }, "NodeReport state: expected a state from 0 through 2, found 3"),
            (
                message(NodeReport.Fields.self) { $0.message(.clusters, ClusterReport.Fields.self) { $0.number(.requests, 1) } },
                "NodeReport clusters[0].name: expected a value, found nothing"
            ),
            (
                cluster { $0.number(.lowest_exponent, 39) },
                "NodeReport clusters[0].latency.lowest_exponent: expected a number from 0 through 38, found 39"
            ),
            (
                cluster { $0.numbers(.bucket_indices, [1, 2]) },
                "NodeReport clusters[0].latency.bucket_counts: expected one for each of 2 indices, found 0"
            ),
            (
                cluster {
                    $0.numbers(.bucket_indices, [7, 7])
                    $0.numbers(.bucket_counts, [1, 1])
                },
                "NodeReport clusters[0].latency.bucket_indices: expected ascending numbers below 250, found 7"
            ),
            (
                cluster {
                    $0.numbers(.bucket_indices, [250])
                    $0.numbers(.bucket_counts, [1])
                },
                "NodeReport clusters[0].latency.bucket_indices: expected ascending numbers below 250, found 250"
            ),
            (
                message(NodeReport.Fields.self) {
                    for _ in 0...ReportLimits.certificates { $0.message(.certificates, CertificateReport(name: "a", notAfter: 0)) }
                },
                "NodeReport certificates: expected at most 1024 values, found 1025"
            ),
            (
                message(NodeReport.Fields.self) {
                    let endpoints = Array(repeating: EndpointReport(address: "10.0.0.1:1"), count: ReportLimits.endpoints / 2 + 1)
                    for name in ["a", "b"] { $0.message(.clusters, ClusterReport(name: name, endpoints: endpoints)) }
                },
                "NodeReport clusters: expected at most 32768 endpoints in all, found 32770"
            ),
            (
                message(NodeReport.Fields.self) {
                    $0.message(.applied, NodeReport.VersionField.self) { $0.string(.version, String(repeating: "v", count: 4097)) }
                },
                "NodeReport applied.version: expected a text of at most 4096 bytes, found one of 4097"
            ),
            (
                message(NodeReport.Fields.self) {
                    $0.message(.process, ProcessReport.Fields.self) { $0.double(.cpu_seconds, -1) }
                },
                "NodeReport process.cpu_seconds: expected a number of seconds, found -1.0"
            ),
        ]
        for (bytes, expected) in cases {
            let error = #expect(throws: WireErrors.self) { try NodeReport(decoding: bytes) }
            #expect(error?.description == expected)
        }
    }
}

@Suite struct ReportedHistogramTests {
    /// Counts as the proxy does: one bucket for each tenth of a power of two.
    private static func counted(_ values: [UInt64]) -> ReportedHistogram {
        var buckets = [UInt64](repeating: 0, count: ReportedHistogram.bucketCount)
        for value in values {
            let exponent = value < 2048 ? 11 : 63 - value.leadingZeroBitCount
            let tenth = value < 2048 ? 0 : ((value - 1 << exponent) * 10) >> exponent
            buckets[min((exponent - 11) * 10 + Int(tenth), buckets.count - 1)] += 1
        }
        return ReportedHistogram(lowestExponent: 11, buckets: buckets, sum: values.reduce(0, +), largest: values.max() ?? 0)
    }

    @Test("histograms merge exactly: the sum of parts is the histogram of all")
    func merge() {
        for seed in UInt64(0)..<50 {
            var random = SeededRandom(seed: seed)
            let values = (0..<random.below(300)).map { _ in UInt64(1) << UInt64(random.below(38)) + UInt64(random.below(1000)) }
            let cut = random.below(values.count + 1)
            var merged = Self.counted(Array(values[..<cut]))
            let isMerged = merged.merge(Self.counted(Array(values[cut...])))
            #expect(isMerged)
            #expect(merged == Self.counted(values), "seed \(seed)")
            #expect(merged.count == UInt64(values.count))
        }
    }

    @Test("a quantile is within 5 % of the value that has that rank")
    func quantiles() {
        for seed in UInt64(0)..<50 {
            var random = SeededRandom(seed: seed)
            let values = (0..<1 + random.below(500)).map { _ in UInt64(10_000) + random.next() % 1_000_000_000 }.sorted()
            let histogram = Self.counted(values)
            for quantile in [0.5, 0.9, 0.99, 1] {
                let exact = Double(values[min(values.count, max(1, Int((quantile * Double(values.count)).rounded(.up)))) - 1])
                #expect(abs(histogram.quantile(quantile) - exact) <= exact * 0.05, "seed \(seed), \(quantile)")
            }
        }
        #expect(ReportedHistogram().quantile(0.5) == 0)
    }

    @Test("the difference of two readings is what came between; of another process, all of it")
    func since() {
        let (early, late) = (Self.counted([5000, 70_000]), Self.counted([5000, 70_000, 70_000, 1_000_000]))
        #expect(late.since(early) == Self.counted([70_000, 1_000_000]))
        #expect(early.since(late) == early)
        #expect(late.since(ReportedHistogram()) == late)
        #expect(late.since(late).count == 0)
    }

    @Test("histograms of different ranges do not merge")
    func ranges() {
        var one = Self.counted([5000])
        let before = one
        let isMerged = one.merge(ReportedHistogram(lowestExponent: 20, buckets: .init(repeating: 1, count: 250), sum: 1, largest: 1))
        #expect(!isMerged && one == before)
    }
}

extension NodeReport {
    static func random(_ random: inout SeededRandom) -> NodeReport {
        func number(_ random: inout SeededRandom) -> UInt64 { random.next() >> UInt64(random.below(64)) }
        func time(_ random: inout SeededRandom) -> Int64 { Int64(1_760_000_000_000) + Int64(random.below(1_000_000)) }
        func coin(_ random: inout SeededRandom) -> Bool { random.below(2) == 0 }
        var node = ClientNode(
            Node(mesh: "shop", role: .virtualNode, name: "cart"), namespace: "web", instance: "cart-\(random.below(9))",
            address: IPAddress("10.0.0.1"), host: IPAddress("127.0.0.2"), userAgentVersion: "1.2.3")
        if coin(&random) { node = ClientNode(name: "cart", namespace: coin(&random) ? "web" : "") }
        func breaker(_ random: inout SeededRandom) -> BreakerReport {
            BreakerReport(
                state: coin(&random) ? "open" : "forced-open", reason: coin(&random) ? "forced" : "", since: time(&random),
                until: coin(&random) ? 0 : time(&random), closes: coin(&random) ? "" : "closes after 3 of 3 probes succeed")
        }
        let clusters = (0..<random.below(4)).map { index in
            ClusterReport(
                name: "c\(index)", requests: number(&random), serverErrors: number(&random), grpcErrors: number(&random),
                latency: ReportedHistogram(
                    lowestExponent: random.below(39),
                    buckets: (0..<250).map { _ in random.below(5) == 0 ? number(&random) : 0 }, sum: number(&random),
                    largest: number(&random)),
                activeRequests: number(&random),
                endpoints: (0..<random.below(4)).map {
                    EndpointReport(
                        address: "10.0.0.\($0):80", requests: number(&random), errors: number(&random),
                        ejection: coin(&random)
                            ? EndpointReport.Ejection(since: time(&random), until: time(&random), reason: "consecutive_errors") : nil,
                        breaker: coin(&random) ? breaker(&random) : nil)
                }, breaker: coin(&random) ? breaker(&random) : nil)
        }
        return NodeReport(
            node: coin(&random) ? node : nil, state: [.initializing, .live, .draining][random.below(3)], startedAt: time(&random),
            reportedAt: time(&random), applied: coin(&random) ? Applied(version: "v", at: time(&random)) : nil,
            configurationAge: Int64(random.below(100_000)),
            rejection: coin(&random) ? Rejection(version: "w", reason: "Cluster/x name: expected y, found z", at: time(&random)) : nil,
            isLastGoodFromDisk: coin(&random), clusters: clusters,
            outlierEvents: (0..<random.below(3)).map { _ in
                OutlierEventReport(
                    at: time(&random), cluster: "c0", endpoint: coin(&random) ? "10.0.0.1:80" : "", action: "EJECT",
                    reason: "consecutive_errors", ejections: number(&random), ejectedFor: Int64(random.below(100_000)))
            },
            certificates: (0..<random.below(3)).map { CertificateReport(name: "s\($0)", notAfter: time(&random)) },
            process: ProcessReport(
                residentMemory: number(&random), cpuSeconds: Double(random.below(1000)) / 8, openConnections: number(&random)))
    }
}

public import EventStore

/// The authorities of the mesh and the certificates that they signed and that still hold.
public struct CertificateLog: Projection, Equatable {
    public static let name = "certificates"
    public static let version = 1

    public struct Authority: Hashable, Sendable, Codable {
        /// SHA-256 of the root certificate in hexadecimal.
        public var id: String
        public var certificatePEM: String
        public var created: UnixTime
        public var notAfter: UnixTime
    }

    public var sequence = 0
    /// The oldest first; the last one signs. Those before it are trusted as long as something they signed holds.
    public private(set) var authorities: [Authority] = []
    /// By serial. Those that ended are forgotten.
    public private(set) var certificates: [String: IssuedCertificate] = [:]
    /// When forgetting is worth the walk again.
    private var nextSweep = UnixTime(milliseconds: 0)

    public init() {}

    private static let sweepMilliseconds: Int64 = 3_600_000

    /// The newest certificate of an instance.
    public func certificate(of instance: InstanceKey) -> IssuedCertificate? {
        certificates.values.filter { $0.instance == instance }.max { ($0.notAfter, $0.serial) < ($1.notAfter, $1.serial) }
    }

    public mutating func apply(_ event: MeshEvent, _ record: StoredEvent) {
        switch event {
        case .certificateIssued(let certificate): certificates[certificate.serial] = certificate
        case .authorityCreated(let change), .authorityRotated(let change):
            authorities.removeAll { $0.id == change.authority }
            authorities.append(
                Authority(id: change.authority, certificatePEM: change.certificatePEM, created: record.time, notAfter: change.notAfter))
        default: return
        }
        sweep(record.time)
    }

    /// By the time of events, so that every replay forgets the same.
    private mutating func sweep(_ now: UnixTime) {
        guard now >= nextSweep else { return }
        nextSweep = UnixTime(milliseconds: now.milliseconds + Self.sweepMilliseconds)
        certificates = certificates.filter { $0.value.notAfter > now }
        guard let current = authorities.last?.id else { return }
        authorities.removeAll { $0.id != current && $0.notAfter <= now }
    }
}

public import EventStore

/// The authorities of the mesh and the certificates that they signed and that still hold.
public struct CertificateLog: Projection, Equatable {
    public static let name = "certificates"
    public static let version = 2

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
    /// The serial of the newest of each proxy.
    private var newest: [InstanceKey: String] = [:]
    /// When forgetting is worth the walk again.
    private var nextSweep = UnixTime(milliseconds: 0)

    public init() {}

    private static let sweepMilliseconds: Int64 = 3_600_000

    /// The newest certificate of an instance.
    public func certificate(of instance: InstanceKey) -> IssuedCertificate? {
        newest[instance].flatMap { certificates[$0] }
    }

    public mutating func apply(_ event: MeshEvent, _ record: StoredEvent) {
        switch event {
        case .certificateIssued(let certificate):
            certificates[certificate.serial] = certificate
            newest[certificate.instance] = certificate.serial
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
        newest = newest.filter { certificates[$0.value] != nil }
        guard let current = authorities.last?.id else { return }
        authorities.removeAll { $0.id != current && $0.notAfter <= now }
    }
}

/// `GET /v1/authority`, and the answer to `POST /v1/authority/rotate`: who signs the certificates of the mesh's proxies.
public struct AuthorityStatus: Hashable, Sendable, Codable {
    public struct Root: Hashable, Sendable, Codable {
        /// SHA-256 of the certificate in hexadecimal.
        public var id: String
        public var expires: String

        public init(id: String, expires: String) {
            self.id = id
            self.expires = expires
        }
    }

    /// The one that signs.
    public var root: Root
    /// The one before it, while it is trusted.
    public var previous: Root?
    /// Until when that is.
    public var previousTrustedUntil: String?
    /// That hold, of both.
    public var certificates: Int
    /// Of these, signed by the one before.
    public var certificatesOfPrevious: Int
    public var certificateLifeSeconds: Int
    /// What is to be done soon.
    public var warning: String?

    public init(
        root: Root, previous: Root? = nil, previousTrustedUntil: String? = nil, certificates: Int, certificatesOfPrevious: Int = 0,
        certificateLifeSeconds: Int, warning: String? = nil
    ) {
        self.root = root
        self.previous = previous
        self.previousTrustedUntil = previousTrustedUntil
        self.certificates = certificates
        self.certificatesOfPrevious = certificatesOfPrevious
        self.certificateLifeSeconds = certificateLifeSeconds
        self.warning = warning
    }
}

/// What a caller of the API may do.
public enum AccessRole: String, Hashable, Sendable, Codable, CaseIterable, Comparable {
    case read
    case write
    /// Tokens too.
    case admin

    public static func < (left: AccessRole, right: AccessRole) -> Bool {
        let order = allCases
        return order.firstIndex(of: left)! < order.firstIndex(of: right)!
    }
}

/// `POST /v1/tokens`
public struct TokenRequest: Hashable, Sendable, Codable {
    public enum Purpose: String, Hashable, Sendable, Codable {
        /// For one proxy to join the mesh, once.
        case join
        /// For calls of this API.
        case api
    }

    public var purpose: Purpose
    /// Of `api`.
    public var role: AccessRole?
    /// Of `join`: the VirtualNode or VirtualGateway whose proxy it is.
    public var subject: ResourceName?
    /// Default: an hour for `join`, 90 days for `api`.
    public var secondsToLive: Double?

    public init(purpose: Purpose, role: AccessRole? = nil, subject: ResourceName? = nil, secondsToLive: Double? = nil) {
        self.purpose = purpose
        self.role = role
        self.subject = subject
        self.secondsToLive = secondsToLive
    }
}

/// The only time that the token itself is seen: its hash is what is kept.
public struct TokenCreated: Hashable, Sendable, Codable {
    public var id: String
    public var token: String
    public var expires: String

    public init(id: String, token: String, expires: String) {
        self.id = id
        self.token = token
        self.expires = expires
    }
}

/// `GET /v1/tokens`; `DELETE /v1/tokens/ID` revokes one.
public struct TokenItem: Hashable, Sendable, Codable {
    public var id: String
    public var purpose: TokenRequest.Purpose
    public var role: AccessRole?
    public var subject: ResourceName?
    public var created: String
    public var expires: String
    /// `valid`, `used`, `revoked` or `expired`.
    public var state: String

    public init(
        id: String, purpose: TokenRequest.Purpose, role: AccessRole?, subject: ResourceName?, created: String, expires: String,
        state: String
    ) {
        self.id = id
        self.purpose = purpose
        self.role = role
        self.subject = subject
        self.created = created
        self.expires = expires
        self.state = state
    }
}

/// `POST /v1/join`, with a join token or with the certificate that is to be renewed.
public struct JoinRequest: Hashable, Sendable, Codable {
    public var token: String?
    /// PEM of a PKCS #10 request; its names are not looked at.
    public var certificateRequest: String
    public var instance: String
    /// Whose proxy it is: counts only with neither, on the control plane's own machine, if callers there need no token.
    public var subject: ResourceName?

    public init(token: String?, certificateRequest: String, instance: String, subject: ResourceName? = nil) {
        self.token = token
        self.certificateRequest = certificateRequest
        self.instance = instance
        self.subject = subject
    }
}

public struct JoinReply: Hashable, Sendable, Codable {
    /// PEM, leaf first.
    public var certificateChain: String
    /// PEM: whom to trust; two authorities while one follows the other.
    public var trustBundle: String
    public var expires: String

    public init(certificateChain: String, trustBundle: String, expires: String) {
        self.certificateChain = certificateChain
        self.trustBundle = trustBundle
        self.expires = expires
    }
}

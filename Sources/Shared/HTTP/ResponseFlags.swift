/// Why a response is not simply the upstream's: Envoy's flags with Envoy's letters, and CB, RB and KA of our own.
///
/// Decided where the error is made, never parsed from text.
public struct ResponseFlags: OptionSet, Hashable, Sendable {
    public var rawValue: UInt32

    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    public static let noHealthyUpstream = ResponseFlags(rawValue: 1 << 0)
    public static let upstreamConnectionFailure = ResponseFlags(rawValue: 1 << 1)
    public static let upstreamOverflow = ResponseFlags(rawValue: 1 << 2)
    public static let noRoute = ResponseFlags(rawValue: 1 << 3)
    public static let retryLimitExceeded = ResponseFlags(rawValue: 1 << 4)
    public static let noCluster = ResponseFlags(rawValue: 1 << 5)
    public static let durationTimeout = ResponseFlags(rawValue: 1 << 6)
    public static let downstreamConnectionTermination = ResponseFlags(rawValue: 1 << 7)
    public static let failedLocalHealthCheck = ResponseFlags(rawValue: 1 << 8)
    public static let upstreamRequestTimeout = ResponseFlags(rawValue: 1 << 9)
    public static let localReset = ResponseFlags(rawValue: 1 << 10)
    public static let upstreamRemoteReset = ResponseFlags(rawValue: 1 << 11)
    public static let upstreamConnectionTermination = ResponseFlags(rawValue: 1 << 12)
    public static let streamIdleTimeout = ResponseFlags(rawValue: 1 << 13)
    public static let downstreamProtocolError = ResponseFlags(rawValue: 1 << 14)
    public static let upstreamProtocolError = ResponseFlags(rawValue: 1 << 15)
    public static let overloadManager = ResponseFlags(rawValue: 1 << 16)
    public static let dnsResolutionFailure = ResponseFlags(rawValue: 1 << 17)
    public static let breakerOpen = ResponseFlags(rawValue: 1 << 18)
    public static let retryBudgetExhausted = ResponseFlags(rawValue: 1 << 19)
    public static let keepAliveRace = ResponseFlags(rawValue: 1 << 20)
    public static let rateLimited = ResponseFlags(rawValue: 1 << 21)
    public static let delayInjected = ResponseFlags(rawValue: 1 << 22)
    public static let faultInjected = ResponseFlags(rawValue: 1 << 23)

    /// The letters of access logs and metrics, in the order of the bits.
    public static let letters: [(flag: ResponseFlags, letters: StaticString)] = [
        (.noHealthyUpstream, "UH"), (.upstreamConnectionFailure, "UF"), (.upstreamOverflow, "UO"), (.noRoute, "NR"),
        (.retryLimitExceeded, "URX"), (.noCluster, "NC"), (.durationTimeout, "DT"), (.downstreamConnectionTermination, "DC"),
        (.failedLocalHealthCheck, "LH"), (.upstreamRequestTimeout, "UT"), (.localReset, "LR"), (.upstreamRemoteReset, "UR"),
        (.upstreamConnectionTermination, "UC"), (.streamIdleTimeout, "SI"), (.downstreamProtocolError, "DPE"),
        (.upstreamProtocolError, "UPE"), (.overloadManager, "OM"), (.dnsResolutionFailure, "DF"), (.breakerOpen, "CB"),
        (.retryBudgetExhausted, "RB"), (.keepAliveRace, "KA"), (.rateLimited, "RL"), (.delayInjected, "DI"), (.faultInjected, "FI"),
    ]
}

extension ResponseFlags: CustomStringConvertible {
    /// `UF,URX`, or `-` for none.
    public var description: String {
        let set = Self.letters.filter { contains($0.flag) }.map { "\($0.letters)" }
        return set.isEmpty ? "-" : set.joined(separator: ",")
    }
}

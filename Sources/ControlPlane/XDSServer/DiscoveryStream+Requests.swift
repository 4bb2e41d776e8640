import Base
import ProxyConfig
import XDSWire

/// What requests mean. "doc" is envoy's xds_protocol.rst.
extension DiscoveryStream {
    // MARK: State of the world

    mutating func take(_ request: DiscoveryRequest, _ actions: inout [Action]) throws(StreamFailure) {
        try identify(request.node, &actions)
        guard let type = streamedType(request.typeURL, &actions) else { return }
        let isFirst = !channels[type]!.isOpen
        // With another nonce it is stale, written before the last response was read: it answers nothing, and since that response is under
        // way nothing is sent for it (doc). But its names count, though another request will follow: what it does not name the client has
        // forgotten, and lacks if the next names it again.
        if !isFirst, !request.responseNonce.isEmpty, request.responseNonce == channels[type]!.nonce {
            // At most one response of a type is under way in this variant.
            if !channels[type]!.inFlight.isEmpty {
                settle(type, 0, request.errorDetail, &actions)
            } else if let error = request.errorDetail {
                revoke(type, error, &actions)
            } else if request.versionInfo == channels[type]!.refusedVersion {
                accept(type, &actions)
            }
        }
        try subscribe(type, to: request.resourceNames, isFirst: isFirst)
        if isFirst, !request.versionInfo.isEmpty { channels[type]!.holding = .version(request.versionInfo) }
    }

    private mutating func subscribe(_ type: StreamedType, to requested: [String], isFirst: Bool) throws(StreamFailure) {
        var names = Set(requested)
        let hasStar = names.remove("*") != nil
        try check(names, count: names.count)
        let before = channels[type]!
        channels[type]!.isOpen = true
        // No names at all mean everything, until the first explicit name; after it, nothing (doc).
        channels[type]!.isWildcard =
            hasStar
            || (requested.isEmpty && type.isWhole && (isFirst || (before.isWildcard && before.names.isEmpty && before.isLegacyWildcard)))
        channels[type]!.isLegacyWildcard = channels[type]!.isWildcard && !hasStar
        channels[type]!.names = names
        // A request that adds names is answered though nothing has changed (doc).
        channels[type]!.owed.formUnion(names.subtracting(before.names))
        if channels[type]!.isWildcard, !before.isWildcard { channels[type]!.isAnswerOwed = type.isWhole }
        channels[type]!.forgetUnwanted()
    }

    // MARK: Delta

    mutating func take(_ request: DeltaDiscoveryRequest, _ actions: inout [Action]) throws(StreamFailure) {
        try identify(request.node, &actions)
        guard let type = streamedType(request.typeURL, &actions) else { return }
        let isFirst = !channels[type]!.isOpen
        channels[type]!.isOpen = true
        // Subscriptions count whatever the nonce says (doc).
        if let index = channels[type]!.inFlight.firstIndex(where: { $0.nonce == request.responseNonce }) {
            settle(type, index, request.errorDetail, &actions)
        } else if !request.responseNonce.isEmpty, request.responseNonce == channels[type]!.nonce {
            if let error = request.errorDetail { revoke(type, error, &actions) } else { accept(type, &actions) }
        }
        var added = Set(request.subscribe)
        let hasStar = added.remove("*") != nil
        try check(added, count: channels[type]!.names.union(added).count)
        channels[type]!.names.formUnion(added)
        // Asked for again is answered again: the client may have lost it.
        channels[type]!.owed.formUnion(added)
        if hasStar || (isFirst && request.subscribe.isEmpty && type.isWhole) {
            if channels[type]!.isWildcard { channels[type]!.owed.formUnion(set?.resources[type]?.keys.map { $0 } ?? []) }
            channels[type]!.isWildcard = true
            channels[type]!.isAnswerOwed = request.initialVersions.isEmpty
        }
        if isFirst, !request.initialVersions.isEmpty {
            try check(Set(request.initialVersions.keys), count: request.initialVersions.count)
            channels[type]!.holding = .versions(request.initialVersions)
        }

        for name in request.unsubscribe where name != "*" && channels[type]!.names.remove(name) != nil {
            // While everything is subscribed, the client is told whether there still is such a thing (doc).
            if channels[type]!.isWildcard { channels[type]!.owed.insert(name) }
        }
        if request.unsubscribe.contains("*") { channels[type]!.isWildcard = false }
        channels[type]!.forgetUnwanted()
    }

    private func check(_ names: Set<String>, count: Int) throws(StreamFailure) {
        guard count <= Self.maxNames else {
            throw StreamFailure(
                code: StreamFailure.resourceExhausted, reason: "resource_names: expected at most \(Self.maxNames), found \(count)")
        }
        if let long = names.first(where: { $0.utf8.count > Self.maxNameBytes }) {
            throw StreamFailure(
                code: StreamFailure.invalidArgument,
                reason: "resource_names: expected names of at most \(Self.maxNameBytes) bytes, found one of \(long.utf8.count)")
        }
    }
}
